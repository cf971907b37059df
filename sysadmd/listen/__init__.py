"""Listeners: WebSocket over TLS, the Unix socket, and REST. Each is a thin shell between a transport and a session."""
