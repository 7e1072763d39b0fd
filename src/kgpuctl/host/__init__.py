"""What a host is, and how to read it. Nothing here judges, and nothing here changes a host."""
