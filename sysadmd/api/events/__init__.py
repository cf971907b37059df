"""Handlers of the namespace `events`."""
