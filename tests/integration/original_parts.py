"""What the simulators of the original programs share: their JSON, RSA and log-ins, and how they dial."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import functools
import hashlib
import json
import secrets
import ssl
import string
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Origin

from tests.unit.keys.openssl import make_certificate

BRIDGE_IDENTIFY = '{"args":"","id":"sysadm_bridge_request_ident","name":"identify","namespace":"rpc"}'
BRIDGE_LIST = (
    '{"args":{"action":"list_ssl_checksums"},"id":"bridge_request_list_keys","name":"settings","namespace":"rpc"}'
)
ENVELOPE = ("namespace", "name", "id", "args")
AUTH = "sysadm-client-auth-auto"
EVENT = "sysadm-client-event-auto"
IDENTIFY = "sysadm_client_identify"
LINK_AUTH = "server_to_bridge_auth"
T = TypeVar("T")
EVENTS = ("dispatcher", "life-preserver", "system-state")
MESSAGES = {400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}
QT = {"compression": None, "max_size": None, "ping_interval": None}
"""What a Qt WebSocket does not do: compress, bound its messages, ping."""


# What all three have in common


def qt_json(message: Any) -> str:
    """JSON as QJsonDocument writes it: keys in order, no blanks, UTF-8 as it is."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def envelope(namespace: str, name: str, id: str, args: Any) -> str:
    return qt_json({"args": args, "id": id, "name": name, "namespace": namespace})


def parsed(text: str) -> dict[str, Any]:
    """The object in a text; an empty one where there is none, as QJsonDocument has it."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def text_of(frame: str | bytes) -> str:
    """Binary frames are taken for UTF-8 (spec sysadm §1.3)."""
    return frame if isinstance(frame, str) else frame.decode("utf-8", "replace")


def to_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def from_base64(text: str) -> str:
    """As QByteArray::fromBase64 does it: what is none of it is passed over."""
    with contextlib.suppress(binascii.Error, ValueError):
        return base64.b64decode(text).decode("utf-8", "replace")
    return ""


def random_text(length: int) -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(length))


def registered_form(pem: str) -> str:
    """A key as it is registered (appendix A1)."""
    return to_base64(pem)


def checksum(pem: str) -> str:
    """The name of a key (appendix A2)."""
    return base64.b64encode(hashlib.md5(pem.encode(), usedforsecurity=False).digest()).decode()


def recovered(pem: str, encrypted: str) -> str:
    """The text under a raw signature with padding of type 1; empty for anything else (spec sysadm §3.5)."""
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, RSAPublicKey)
    numbers, size = key.public_numbers(), key.key_size // 8
    with contextlib.suppress(binascii.Error, ValueError):
        block = pow(int.from_bytes(base64.b64decode(encrypted), "big"), numbers.e, numbers.n).to_bytes(size, "big")
        padding, zero, text = block[2:].partition(b"\0")
        if block[:2] == b"\0\1" and zero and len(padding) >= 8 and set(padding) == {0xFF}:
            return text.decode("ascii")
    return ""


class Pair:
    """An RSA-2048 key pair, as all of them have it."""

    def __init__(self) -> None:
        self.private = generate_private_key(65537, 2048)
        self.pem = (
            self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
        )

    @property
    def checksum(self) -> str:
        return checksum(self.pem)

    @property
    def private_pem(self) -> bytes:
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def encrypted(self, challenge: str) -> str:
        """Base64 of the private key's operation on the padded text: no hash, no DigestInfo."""
        numbers = self.private.private_numbers()
        text = challenge.encode()
        block = b"\0\1" + b"\xff" * (253 - len(text)) + b"\0" + text
        power = pow(int.from_bytes(block, "big"), numbers.d, numbers.public_numbers.n)
        return base64.b64encode(power.to_bytes(256, "big")).decode()


@functools.cache
def kept_pair(use: str) -> Pair:
    """One pair for each use in all of the tests: a new one costs a tenth of a second."""
    return Pair()


class Tokens:
    """Who is logged in, with the originals' way to look for it: any part of the list of log-ins will do, and the empty
    token is a part of every one (spec sysadm §3.8).
    """

    def __init__(self) -> None:
        self._live: list[str] = []

    def add(self, token: str, owner: str) -> str:
        self._live.append(f"{token}::::{owner}")
        return token

    def valid(self, token: str) -> bool:
        return any(f"{token}::::" in one for one in self._live)

    def drop(self, token: str) -> None:
        self._live = [one for one in self._live if not (token and one.startswith(f"{token}::::"))]


class Challenges:
    """Texts to sign: good for 30 seconds and one answer, on whatever connection it comes (spec sysadm §3.8)."""

    def __init__(self, length: int) -> None:
        self.text: Callable[[], str] = functools.partial(random_text, length)
        self._live: dict[str, float] = {}

    def new(self) -> str:
        challenge = self.text()
        self._live[challenge] = time.monotonic() + 30
        return challenge

    def answered_by(self, keys: dict[str, str], encrypted: Any) -> str | None:
        """The owner of the key, of `keys` (owner to PEM), that signed one of the live challenges."""
        for owner, pem in keys.items():
            challenge = recovered(pem, str(encrypted))
            if self._live.pop(challenge, 0.0) > time.monotonic():
                return owner
        return None


@dataclass
class Frame:
    """A message on the wire: when, which way (`>` to the peer, `<` from it), and what."""

    at: float
    way: str
    text: str


def server_tls(directory: Path, name: str, pair: Pair | None = None) -> ssl.SSLContext:
    """A self-signed certificate, as the start scripts make it, for 127.0.0.1."""
    key = directory / f"{name}.key"
    key.write_bytes((pair or kept_pair("tls")).private_pem)
    certificate = make_certificate(key, "-days", "1024", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def tolerated(der: bytes) -> bool:
    """Whether those who dial take a certificate: a self-signed leaf that has not run out (spec sysadm §1.2)."""
    certificate = x509.load_der_x509_certificate(der)
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return certificate.not_valid_before_utc.timestamp() <= time.time() <= certificate.not_valid_after_utc.timestamp()


async def until(found: Callable[[], T | bool | None], timeout: float = 10.0) -> T:
    """What `found` returns as soon as that is something. Raises TimeoutError."""
    async with asyncio.timeout(timeout):
        while True:
            value = found()
            if value:
                return value  # type: ignore[return-value]
            await asyncio.sleep(0.005)


@dataclass
class Remote:
    """The other end of a session: what both sides remember for a peer (spec sysadm §6.6)."""

    id: str = ""
    hostname: str = ""
    enc_key: str = ""
    token: str = ""
    events: list[str] = field(default_factory=list)

    def closed(self, text: str) -> str:
        """A payload for this peer. A key is nothing but the switch to base64, and is known by its heading."""
        return to_base64(text) if self.wraps else text

    def opened(self, payload: str) -> str:
        return from_base64(payload) if self.wraps else payload

    @property
    def wraps(self) -> bool:
        return " PUBLIC KEY--" in self.enc_key or " PRIVATE KEY--" in self.enc_key


class Dialler:
    """Holds a connection to one address, and dials again after a while: a minute, with the originals."""

    origin = ""
    redial = 60.0

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.refused: list[str] = []
        self.dials = 0
        self._connection: ClientConnection | None = None
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def dialling(self, url: str) -> AsyncIterator[Self]:
        self._task = asyncio.create_task(self._run(url))
        try:
            yield self
        finally:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def until(self, found: Callable[[], T | bool | None], timeout: float = 10.0) -> T:
        """As the function `until`, and never longer than this program runs."""

        def alive() -> T | bool | None:
            if self._task is not None and self._task.done():
                self._task.result()
            return found()

        return await until(alive, timeout)

    @property
    def sent(self) -> list[str]:
        return [frame.text for frame in self.frames if frame.way == ">"]

    @property
    def received(self) -> list[str]:
        return [frame.text for frame in self.frames if frame.way == "<"]

    async def _run(self, url: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        options = {"ssl": context, "origin": Origin(self.origin), "user_agent_header": None, **QT}
        while True:
            self.dials += 1
            try:
                async with connect(url, close_timeout=1, proxy=None, **options) as connection:  # type: ignore[arg-type]
                    tls = connection.transport.get_extra_info("ssl_object")
                    if not tolerated(tls.getpeercert(binary_form=True)):
                        self.refused.append("the certificate")
                    else:
                        self._connection = connection
                        await self._session(connection)
            except (OSError, WebSocketException, TimeoutError):
                pass
            finally:
                self._connection = None
                self._lost()
            await asyncio.sleep(self.redial)

    async def _session(self, connection: ClientConnection) -> None:
        await self._opened()
        async for frame in connection:
            self.frames.append(Frame(time.monotonic(), "<", text_of(frame)))
            await self._receive(text_of(frame))

    async def _write(self, text: str) -> None:
        if self._connection is not None:
            self.frames.append(Frame(time.monotonic(), ">", text))
            with contextlib.suppress(ConnectionClosed):
                await self._connection.send(text)

    async def _opened(self) -> None:
        raise NotImplementedError

    async def _receive(self, text: str) -> None:
        raise NotImplementedError

    def _lost(self) -> None:
        raise NotImplementedError
