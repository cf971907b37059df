"""Which server certificates a client accepts.

Three ways: the machine's certificate authorities, a file (`ca`) with an authority or with the server's own
certificate, or any certificate at all (`insecure`). A server makes itself a self-signed certificate at its first
start, so the second is the usual one: what `ca` holds is trusted and nothing else is.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

from sysadmd.client.errors import ConnectFailed
from sysadmd.keys.certificate import fingerprint

PROBE_TIMEOUT = 5.0
"""Seconds for the second handshake that reads a certificate which was not trusted, for the error text."""


def client_context(ca: Path | None, *, insecure: bool) -> ssl.SSLContext:
    """A TLS context for one of the three ways. `ConnectFailed` when the file cannot be used."""
    if insecure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if ca is None:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cafile=str(ca))
    except ssl.SSLError as error:
        raise ConnectFailed(f"{ca}: no PEM certificate ({error.reason or error})") from error
    except OSError as error:
        raise ConnectFailed(f"{ca}: {error.strerror or error}") from error
    # A leaf certificate in the file is trusted as itself (X509_V_FLAG_PARTIAL_CHAIN), and strict RFC 5280 checks, on
    # since Python 3.13, would refuse self-signed leaves that other programs made.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


async def read_fingerprint(host: str, port: int) -> str | None:
    """The fingerprint of the certificate that a server shows, trusted or not; None when it cannot be read in time."""
    context = client_context(None, insecure=True)
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        async with asyncio.timeout(PROBE_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
            try:
                certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            finally:
                writer.transport.abort()
            return fingerprint(certificate) if certificate else None
    return None
