"""Reading and changing a cluster. Values and their boundary; nothing is judged here."""
