"""Sealed sessions: TLS 1.3 between a client and a server through a bridge, which can read and alter nothing of it.

The bridge relays opaque payloads, so the two ends of TLS live in memory: what OpenSSL wants to send becomes payloads,
and payloads become what OpenSSL reads. There is no socket, no task and no clock here; whoever owns a `Seal` feeds it
what was relayed and relays what it gives back.

Why TLS and nothing smaller: it brings forward secrecy, protection against replay, loss, reordering and truncation, and
a handshake that others have proven. What it is asked for is narrowed to that: version 1.3 only, whose suites all agree
on a fresh key; no tickets, since they would let a session be resumed without one; no client certificate, since who the
client is gets told by a log-in inside the session, which signs the server's certificate along (`binding`), so that a
proof cannot be handed on to another server.

Whom the client talks to is settled by the server's public key alone, which it pinned when it registered: no authority
is asked, no name and no date is looked at. The last word of the handshake is the client's, and it is not sent to a key
that is not the pinned one.

A relay has no flow control, so the ends have it themselves: neither may have more than `WINDOW` bytes of TLS on the way
that the other one has not consumed and credited. A message is encrypted when the window has room for it, in pieces, so
one that is larger than the window passes through it, and nothing is stored twice.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sysadmd.errors import SealError, StateError, WireError
from sysadmd.keys.bridge import BRIDGE_KEY_FILE, bridge_key
from sysadmd.keys.certificate import private_key, public_key, self_signed
from sysadmd.keys.signing import fingerprint
from sysadmd.limits import Limits
from sysadmd.wire.relay import parse_sealed, sealed_credit, sealed_data

__all__ = ["CERTIFICATE_FILE", "MAX_DATA", "WINDOW", "Seal", "SealError", "SealingContext", "sealing_context"]

CERTIFICATE_FILE = "ws_bridge.crt"
CERTIFICATE_NAMES = ("sysadmd",)
"""The names in the certificate. Nobody compares them, and those of the machine are not everybody's business."""
WINDOW = 256 * 1024
"""Bytes of TLS that each end may have on the way: 20 MiB/s at 12 ms."""
MAX_DATA = 48 * 1024
"""Bytes of TLS in one payload: 64 KiB in base64."""
RECORD_OVERHEAD = 22
"""What TLS 1.3 adds to a record: its header, the type of its contents and the tag (RFC 8446 §5.2)."""
PIECE = MAX_DATA - 3 * RECORD_OVERHEAD
"""Bytes of messages that fill one payload: three records of up to 16 KiB."""
LENGTH = 4
"""Bytes that tell the length of a message, big-endian."""


@dataclass(frozen=True, slots=True)
class SealingContext:
    """A server's end of all its sealed sessions. `fingerprint` names its key, which clients pin; `binding` its
    certificate: SHA-256 of the DER, in lower-case hexadecimal.
    """

    tls: ssl.SSLContext
    fingerprint: str
    binding: str


def sealing_context(state_dir: Path) -> SealingContext:
    """The context of a state directory: its bridge key, and a certificate of that key, both made where there are none.

    The certificate is made again when it is about to expire, or is another key's. Raises StateError.
    """
    cert, key = state_dir / CERTIFICATE_FILE, state_dir / BRIDGE_KEY_FILE
    if not key.exists():
        bridge_key(state_dir)
    self_signed(cert, key, CERTIFICATE_NAMES, private_key)
    tls = _context(ssl.PROTOCOL_TLS_SERVER)
    tls.num_tickets = 0
    tls.options |= ssl.OP_NO_TICKET
    try:
        tls.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ssl.SSLError):
        bridge_key(state_dir)  # says what is wrong with a key that cannot be used
        self_signed(cert, key, CERTIFICATE_NAMES, private_key, anew=True)
        try:
            tls.load_cert_chain(cert, key, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            raise StateError(f"{cert} and {key}: not a certificate and its key: {error.strerror or error}") from error
    der = ssl.PEM_cert_to_DER_cert(cert.read_text("ascii"))
    return SealingContext(tls, fingerprint(public_key(der)), hashlib.sha256(der).hexdigest())


class Seal:
    """One end of one sealed session.

    `receive` takes payloads, `send` takes messages, and after either (or `release`) `outgoing` gives the payloads that
    may go now. A `SealError` ends the session: from then on nothing goes out, and every call raises one.

    `pending` grows by what is sent while the window is full; its owner bounds it by sending no more.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        *,
        accept: Callable[[str], bool] | None = None,
        binding: str = "",
        max_message: int = Limits().frame_unauthenticated,
    ) -> None:
        self.established = False
        self.peer_key = ""
        """The fingerprint of the server's key, at the client's end, once it is known."""
        self.binding = binding
        """SHA-256 of the server's certificate (DER) in hexadecimal; at the client's end once it is known."""
        self.max_message = max_message
        """Bytes of a message that the other end may send; counts for every message that has not come yet."""
        self._accept = accept
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.wrap_bio(self._in, self._out, server_side=accept is None)
        self._failure: SealError | None = None
        self._unsent = bytearray()
        """Messages with their lengths that are not encrypted yet."""
        self._travelling = 0
        """Bytes of TLS that went out and were not credited."""
        self._partial = bytearray()
        self._handed_over = False
        self._unreleased = self._credit = 0
        """Bytes of TLS that came and are not consumed yet, and those that are but were not credited yet."""
        if accept is not None:
            self._handshake()

    @classmethod
    def server(cls, context: SealingContext, *, max_message: int = Limits().frame_unauthenticated) -> Self:
        """The server's end, which waits for the client's first payload."""
        return cls(context.tls, binding=context.binding, max_message=max_message)

    @classmethod
    def client(cls, accept: Callable[[str], bool], *, max_message: int = Limits().frame_bridge) -> Self:
        """The client's end, which has its first payload ready. `accept` says whether a fingerprint (lower-case
        hexadecimal SHA-256 of the SubjectPublicKeyInfo) is that of the server's key.
        """
        context = _context(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the key is compared instead (`_check_peer`)
        return cls(context, accept=accept, max_message=max_message)

    @property
    def pending(self) -> int:
        """Bytes that wait for the handshake or for the window."""
        return len(self._unsent) + self._out.pending

    @property
    def writable(self) -> bool:
        """Whether what is sent now goes out at once, as far as the window has room."""
        return self.established and self._failure is None and not self._unsent and not self._out.pending

    def receive(self, payload: bytes) -> list[bytes]:
        """Take one relayed payload; the messages that are complete with it. Raises SealError.

        What a message occupied in the window stays occupied until `release`. The pieces of one that is not complete are
        given back at once, since `max_message` bounds them.
        """
        self._check_open()
        try:
            _, value = parse_sealed(payload)
        except WireError as error:
            raise self._fail(SealError("tls", f"not a payload of a sealed session: {error.message}")) from None
        if isinstance(value, bytes):
            return self._data(value)
        if isinstance(value, int):
            if value > self._travelling:
                raise self._fail(SealError("window", f"credit for {value} bytes, {self._travelling} are on the way"))
            self._travelling -= value
            return []
        raise self._fail(SealError("closed", f"the other end closed the sealed session: {value or 'no reason given'}"))

    def send(self, message: bytes) -> None:
        """Queue one message; `outgoing` encrypts it when the handshake is done and the window has room. Raises
        SealError.
        """
        self._check_open()
        self._unsent += len(message).to_bytes(LENGTH, "big")
        self._unsent += message

    def outgoing(self) -> list[bytes]:
        """The payloads that may be relayed now, in order, each of them once."""
        if self._failure is not None:
            return []
        payloads = []
        if self._credit >= WINDOW // 2:
            payloads.append(sealed_credit(self._credit))
            self._credit = 0
        while True:
            if not self._out.pending and self._unsent and self.established:
                self._encrypt()
            size = min(self._out.pending, MAX_DATA)
            # A payload waits for room for all of it: small ones to fill up every gap would cost more than they bring.
            if not size or self._travelling + size > WINDOW:
                return payloads
            self._travelling += size
            payloads.append(sealed_data(self._out.read(size)))

    def release(self) -> None:
        """All messages so far are consumed: the other end may send as much again."""
        self._credit += self._unreleased
        self._unreleased = 0
        self._handed_over = False

    # The two directions

    def _data(self, tls: bytes) -> list[bytes]:
        if len(tls) > MAX_DATA:
            raise self._fail(SealError("size", f"a payload of {len(tls)} bytes of TLS, {MAX_DATA} is the limit"))
        self._unreleased += len(tls)
        if self._unreleased + self._credit > WINDOW:
            raise self._fail(SealError("window", f"the other end sent more than the {WINDOW} bytes that it may"))
        self._in.write(tls)
        messages: list[bytes] = []
        if self.established or self._handshake():
            for data in self._decrypted():
                self._partial += data
                self._split(messages)
        if self._out.pending > WINDOW:
            # Nothing of ours is so much: it is what OpenSSL answers to requests for new keys (RFC 8446 §4.6.3).
            raise self._fail(SealError("window", f"more than {WINDOW} bytes of TLS were asked for and not credited"))
        if messages:
            self._handed_over = True
        elif not self._handed_over:
            self.release()
        return messages

    def _handshake(self) -> bool:
        """Take the next step; whether it was the last one."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise self._broken(error) from error
        if self._accept is not None:
            self._check_peer(self._accept)
        self.established = True
        return True

    def _check_peer(self, accept: Callable[[str], bool]) -> None:
        """Compare the server's key before the end of the handshake, which lies ready, leaves."""
        der = self._tls.getpeercert(binary_form=True) or b""
        try:
            self.peer_key = fingerprint(public_key(der))
        except ValueError as error:
            raise self._fail(SealError("tls", f"what the server shows {error}")) from error
        self.binding = hashlib.sha256(der).hexdigest()
        if not accept(self.peer_key):
            raise self._fail(SealError("untrusted", f"the server shows the key {self.peer_key}, which is not pinned"))

    def _decrypted(self) -> Iterator[bytes]:
        """What can be read now, in pieces of up to a record."""
        read, waiting, buffered = self._tls.read, self._in, self._tls.pending
        # Asked first, because the exception of a read in vain costs more than the read of a small message.
        while waiting.pending or buffered():
            try:
                data = read(MAX_DATA)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLError as error:
                raise self._broken(error) from error
            if not data:
                raise self._fail(SealError("closed", "the other end closed the sealed session"))
            yield data

    def _split(self, messages: list[bytes]) -> None:
        """Move what is complete from `_partial` to `messages`."""
        partial, start = self._partial, 0
        while len(partial) - start >= LENGTH:
            body = start + LENGTH
            length = int.from_bytes(partial[start:body], "big")
            if length > self.max_message:
                raise self._fail(SealError("size", f"a message of {length} bytes, {self.max_message} is the limit"))
            if len(partial) < body + length:
                break
            start = body + length
            with memoryview(partial) as view:
                messages.append(bytes(view[body:start]))
        del partial[:start]

    def _encrypt(self) -> None:
        with memoryview(self._unsent) as view:
            try:
                done = self._tls.write(view[:PIECE])
            except ssl.SSLError as error:
                raise self._broken(error) from error
        del self._unsent[:done]

    # The end

    def _check_open(self) -> None:
        if self._failure is not None:
            raise SealError("closed", f"the sealed session is over: {self._failure}")

    def _broken(self, error: ssl.SSLError) -> SealError:
        reason = (error.reason or str(error)).lower().replace("_", " ")
        return self._fail(SealError("tls", f"the sealed session is broken: {reason}"))

    def _fail(self, error: SealError) -> SealError:
        self._failure = error
        self._unsent.clear()
        self._partial.clear()
        return error


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    return context
