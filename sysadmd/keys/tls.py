"""TLS contexts of the server."""

from __future__ import annotations

import ssl
from pathlib import Path

from sysadmd.errors import StateError

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 §4.2). Those of TLS 1.3 are all good."""


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """A context for a listener: TLS 1.2 or newer, no client certificate, no ALPN (a WebSocket peer expects none).

    Raises StateError when the pair cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    reload_certificate(context, cert, key)
    return context


def reload_certificate(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    """Use this pair from the next handshake on (a renewed certificate, SIGHUP). Raises StateError."""
    try:
        context.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise StateError(f"{cert} and {key}: not a certificate and its key: {error.strerror or error}") from error
