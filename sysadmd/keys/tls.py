"""TLS contexts of the server."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path

import structlog

from sysadmd.errors import StateError

log = structlog.get_logger(__name__)

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 §4.2). Those of TLS 1.3 are all good."""


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """A context for a listener: TLS 1.2 or newer, no client certificate (`ask_clients`), no ALPN (a WebSocket peer
    expects none).

    Raises StateError when the pair cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    reload_certificate(context, cert, key)
    return context


def ask_clients(context: ssl.SSLContext, certificates: Iterable[str], ca: Path | None) -> None:
    """From the next handshake on, ask for a client certificate if there is one to recognise: one of `certificates`
    (PEM), or of an authority in the file `ca`. A client without one is welcome all the same.

    What the context trusted before it goes on trusting. Raises StateError when `ca` cannot be used.
    """
    asked = False
    for certificate in certificates:
        try:
            context.load_verify_locations(cadata=certificate)
        except ssl.SSLError as error:
            log.warning("a registered certificate cannot be used for TLS", reason=str(error))
        else:
            asked = True
    if ca is not None:
        try:
            context.load_verify_locations(cafile=ca)
        except (OSError, ssl.SSLError) as error:
            raise StateError(f"{ca}: no certificates in PEM: {error.strerror or error}") from error
        asked = True
    # A certificate that is an anchor itself is enough: those of the originals are signed by nobody else.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_OPTIONAL if asked else ssl.CERT_NONE


def reload_certificate(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    """Use this pair from the next handshake on (a renewed certificate, SIGHUP). Raises StateError."""
    try:
        context.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise StateError(f"{cert} and {key}: not a certificate and its key: {error.strerror or error}") from error
