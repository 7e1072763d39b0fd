"""Take a cluster from bare NVIDIA GPU nodes to GPU workloads in Kata VMs, and back again."""

__version__ = "0.1.0"
