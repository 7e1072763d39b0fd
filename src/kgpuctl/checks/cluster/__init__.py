"""Can a cluster take the stack: pure functions over a snapshot."""
