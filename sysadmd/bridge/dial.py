"""Dialling a bridge: its address, and whether the certificate that it shows is trusted.

There are four ways to trust a bridge, in the order of what the configuration says:

* `insecure`: any certificate. Original bridges make a new one at each start, so there is nothing to compare.
* `ca`: what the file holds, and nothing else. An authority vouches for a host name; the bridge's own certificate is
  trusted as itself, whatever name is in it.
* A certificate that verifies by the authorities of the machine.
* Otherwise the key that is seen first is remembered (`known_bridges`), and no other one is taken later.

Where a certificate does not verify, it is looked at in a second connection, because OpenSSL does not hand out what it
refused. Nothing but the WebSocket handshake is said on that connection before its certificate has passed.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import anyio.to_thread
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from sysadmd.bridge.known import KnownBridges
from sysadmd.config import BridgeLink
from sysadmd.errors import StateError, SysadmdError
from sysadmd.keys.certificate import public_key
from sysadmd.keys.signing import fingerprint
from sysadmd.keys.trust import trust_all, trust_file
from sysadmd.limits import Limits
from sysadmd.listen.patience import PatientConnection

log = structlog.get_logger(__name__)

DEFAULT_PORT = 12149
MAX_QUEUE = 4
"""Frames read ahead of the session that they are for: it takes each one at once."""
CLOSE_TIMEOUT = 2.0
"""Seconds for a closing handshake. Who does not answer a ping has it added to the ping's own timeout."""
WRONG_NAME = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL."""
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class DialFailed(SysadmdError):
    """A bridge that cannot be reached, or is not trusted. Its text is for people."""


class Untrusted(DialFailed):
    """Somebody answers with a certificate that is not trusted."""


class LinkConnection(PatientConnection, ClientConnection):
    """A connection to a bridge that tells when it takes frames again."""

    on_writable: Callable[[], None] | None = None

    def resume_writing(self) -> None:
        """The transport's buffer is below its low-water mark."""
        super().resume_writing()
        if self.on_writable is not None:
            self.on_writable()


class _Connect(connect):
    """`connect` without redirects: whoever answers for a bridge does not choose where its servers go."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def full_url(url: str) -> str:
    """`wss://HOST:PORT/PATH` of what the configuration has: the scheme and the port may be left out (spec §6.7)."""
    parts = urlsplit(url if "://" in url else f"wss://{url}")
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}:{parts.port or DEFAULT_PORT}{parts.path or '/'}"


class Dialler:
    """Opens connections to one bridge."""

    def __init__(self, name: str, link: BridgeLink, known: KnownBridges, limits: Callable[[], Limits]) -> None:
        self.name, self.link, self.url = name, link, full_url(link.url)
        self._known, self._limits = known, limits

    async def dial(self) -> LinkConnection:
        """A connection whose certificate is trusted and whose handshakes are done. Raises DialFailed and StateError."""
        try:
            if self.link.insecure:
                return await self._open(trust_all())
            if self.link.ca is not None:
                return await self._dial_with(self.link.ca)
            return await self._dial_known()
        except (OSError, EOFError, WebSocketException, ValueError) as error:
            raise DialFailed(f"{self.url}: {self._reason(error)}") from error

    async def _dial_with(self, ca: Path) -> LinkConnection:
        """Trust what the file holds."""
        context = await anyio.to_thread.run_sync(trust_file, ca)
        try:
            return await self._open(context)
        except ssl.SSLCertVerificationError as error:
            refused = error
        if refused.verify_code in WRONG_NAME:
            own = await anyio.to_thread.run_sync(_certificates, ca)
            connection = await self._open(trust_all())
            if _shown(connection) in own:
                return connection
            connection.transport.abort()
        raise Untrusted(f"{self.url}: the bridge's certificate is not the one of {ca} ({_verdict(refused)})")

    async def _dial_known(self) -> LinkConnection:
        """Trust what verifies, what is known, or what comes first."""
        pinned = await anyio.to_thread.run_sync(self._known.get, self.name)
        if pinned is not None:
            connection = await self._open(trust_all())
            shown = _key(connection)
            if shown == pinned:
                return connection
            connection.transport.abort()
        try:
            return await self._open(await anyio.to_thread.run_sync(ssl.create_default_context))
        except ssl.SSLCertVerificationError as error:
            refused = error
        if pinned is not None:
            raise Untrusted(
                f"{self.url}: the bridge shows the key {shown}, and {pinned} is the one that was trusted first. If its "
                f"key was changed, remove {self.name} from {self._known.path}; an original bridge makes a new "
                "certificate at each start, for which the link needs `insecure = true`"
            )
        return await self._trust_first(refused)

    async def _trust_first(self, refused: ssl.SSLCertVerificationError) -> LinkConnection:
        connection = await self._open(trust_all())
        shown = _key(connection)
        try:
            await anyio.to_thread.run_sync(self._known.add, self.name, shown)
        except StateError:
            connection.transport.abort()
            raise
        log.warning(
            "bridge trusted because it is the first one seen", link=self.name, key=shown, certificate=_verdict(refused)
        )
        return connection

    async def _open(self, context: ssl.SSLContext) -> LinkConnection:
        limits = self._limits()
        connection = await _Connect(
            self.url,
            ssl=context,
            compression=None,
            max_size=limits.frame_authenticated,
            max_queue=MAX_QUEUE,
            open_timeout=limits.handshake_timeout,
            close_timeout=CLOSE_TIMEOUT,
            ping_interval=limits.ping_interval,
            ping_timeout=limits.ping_timeout,
            write_limit=limits.write_buffer,
            user_agent_header="sysadmd",
            proxy=None,  # one of the environment is meant for browsing
            create_connection=LinkConnection,
        )
        assert isinstance(connection, LinkConnection)
        return connection

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._limits().handshake_timeout:g} s"
        if isinstance(error, ssl.SSLError):
            return f"TLS failed ({error.reason or error})"
        if isinstance(error, OSError):
            return error.strerror or str(error) or "the connection ended during the handshake"
        if isinstance(error, InvalidStatus):
            return f"refused with HTTP status {error.response.status_code}"
        return str(error) or "no WebSocket server answers there"


def _certificates(file: Path) -> set[bytes]:
    """Every certificate of a PEM file, in DER."""
    return {ssl.PEM_cert_to_DER_cert(text) for text in _CERTIFICATE.findall(file.read_text("ascii", "replace"))}


def _shown(connection: LinkConnection) -> bytes:
    """The certificate of the other end, in DER."""
    found: bytes = connection.transport.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""
    return found


def _key(connection: LinkConnection) -> str:
    """The fingerprint of its key. Raises ValueError, and drops the connection, where there is none to read."""
    try:
        return fingerprint(public_key(_shown(connection)))
    except ValueError:
        connection.transport.abort()
        raise


def _verdict(error: ssl.SSLCertVerificationError) -> str:
    return error.verify_message.rstrip(".")
