"""Is GPU passthrough into Kata VMs really working: pure functions over a snapshot."""
