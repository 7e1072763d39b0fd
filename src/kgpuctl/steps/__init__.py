"""Changes to a cluster: planned as values, made through protocols. No library is opened here."""
