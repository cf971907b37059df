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
from sysadmd.keys.signing import PrivateKey
from sysadmd.keys.trust import trust_all, trust_file

PROBE_TIMEOUT = 5.0
"""Seconds for the second handshake that reads a certificate which was not trusted, for the error text."""


def client_context(
    ca: Path | None, *, insecure: bool, certificate: tuple[Path, Path | None] | None = None
) -> ssl.SSLContext:
    """A TLS context for one of the three ways, and the client's own certificate and key where it has one.

    `ConnectFailed` when a file cannot be used.
    """
    context = _trusting(ca, insecure=insecure)
    if certificate is not None:
        own, key = certificate
        try:
            context.load_cert_chain(own, key, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or error
            raise ConnectFailed(f"{own}: not a certificate with its key ({reason})") from error
    return context


def read_key(path: Path) -> PrivateKey:
    """The private key in a file. `ConnectFailed` when it cannot be used."""
    try:
        return PrivateKey.load(path.read_bytes())
    except OSError as error:
        raise ConnectFailed(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConnectFailed(f"{path}: {error}") from error


def _trusting(ca: Path | None, *, insecure: bool) -> ssl.SSLContext:
    if insecure:
        return trust_all()
    if ca is None:
        return ssl.create_default_context()
    try:
        return trust_file(ca)
    except ValueError as error:
        raise ConnectFailed(str(error)) from error


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
