"""Reports as text, JSON, JUnit, Markdown and shell. Nothing is decided here."""
