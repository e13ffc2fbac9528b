"""Listeners: who hears of events. Each is known by its entry point alone."""
