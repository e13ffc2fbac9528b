"""Engines: what a frame is, and how user code is called. Each is known by its entry point alone."""
