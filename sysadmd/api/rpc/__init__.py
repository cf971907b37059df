"""Handlers of the namespace `rpc`."""
