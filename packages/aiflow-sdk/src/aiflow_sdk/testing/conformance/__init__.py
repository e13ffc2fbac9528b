"""Suites that every plugin of a family passes, ours and a stranger's: derive a test class and name the plugin."""
