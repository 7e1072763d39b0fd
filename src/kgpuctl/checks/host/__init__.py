"""The questions of `preflight`, a module for each area of a host."""
