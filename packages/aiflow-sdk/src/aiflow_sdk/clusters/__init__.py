"""Clusters: where a process runs. Each is known by its entry point alone."""
