"""Sealed sessions, both ends in memory; what stands between them is the test's."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sysadmd.errors import StateError
from sysadmd.keys.bridge import BRIDGE_KEY_FILE, bridge_key
from sysadmd.keys.certificate import private_key, self_signed, validity
from sysadmd.keys.seal import CERTIFICATE_FILE, MAX_DATA, WINDOW, Seal, SealError, SealingContext, sealing_context
from sysadmd.limits import Limits
from sysadmd.wire.relay import parse_sealed, sealed_close, sealed_credit, sealed_data

MIB = 1024 * 1024
SUITES = [
    ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256),
    ("TLS_CHACHA20_POLY1305_SHA256", "TLSv1.3", 256),
    ("TLS_AES_128_GCM_SHA256", "TLSv1.3", 128),
]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def context(state: Path) -> SealingContext:
    return sealing_context(state)


def carry(sender: Seal, receiver: Seal) -> list[bytes]:
    """Relay what may go from one end to the other, once."""
    return [message for payload in sender.outgoing() for message in receiver.receive(payload)]


def settle(one: Seal, other: Seal) -> tuple[list[bytes], list[bytes]]:
    """Relay until nothing moves any more; what the first and what the second end received. Nothing is released."""
    here: list[bytes] = []
    there: list[bytes] = []
    while True:
        payloads, answers = one.outgoing(), other.outgoing()
        if not payloads and not answers:
            return here, there
        for payload in payloads:
            there += other.receive(payload)
        for payload in answers:
            here += one.receive(payload)


def opened(context: SealingContext, *, max_message: int = 64 * MIB) -> tuple[Seal, Seal]:
    """A client's and a server's end after the handshake."""
    client = Seal.client(lambda key: key == context.fingerprint, max_message=max_message)
    server = Seal.server(context, max_message=max_message)
    settle(client, server)
    assert client.established
    assert server.established
    return client, server


def refusal(action: Callable[[], object]) -> SealError:
    with pytest.raises(SealError) as caught:
        action()
    return caught.value


# The handshake


def test_both_ends_agree_on_who_the_server_is(context: SealingContext, state: Path) -> None:
    client, server = opened(context)
    assert client.peer_key == context.fingerprint == bridge_key(state).public.fingerprint
    der = ssl.PEM_cert_to_DER_cert((state / CERTIFICATE_FILE).read_text())
    assert client.binding == server.binding == context.binding == hashlib.sha256(der).hexdigest()


def test_the_client_speaks_first_and_the_server_waits(context: SealingContext) -> None:
    client, server = Seal.client(lambda key: True), Seal.server(context)
    assert server.outgoing() == []
    (hello,) = client.outgoing()
    assert parse_sealed(hello)[0] == "data"
    assert client.outgoing() == []
    assert not client.writable


def test_what_is_sent_before_the_handshake_is_done_goes_after_it(context: SealingContext) -> None:
    client, server = Seal.client(lambda key: True), Seal.server(context)
    client.send(b"early")
    server.send(b"early too")
    assert client.pending > 0
    assert settle(client, server) == ([b"early too"], [b"early"])
    assert client.writable
    assert (client.pending, server.pending) == (0, 0)


def test_another_key_is_refused_before_anything_is_sent(context: SealingContext) -> None:
    client, server = Seal.client(lambda key: False), Seal.server(context)
    client.send(b"a secret")
    carry(client, server)
    error = refusal(lambda: carry(server, client))
    assert error.code == "untrusted"
    assert context.fingerprint in str(error)
    assert client.outgoing() == []
    assert not client.established
    assert refusal(lambda: client.send(b"another")).code == "closed"


def test_whoever_stands_between_with_a_key_of_their_own_gets_nothing(context: SealingContext, tmp_path: Path) -> None:
    between = Seal.server(sealing_context(tmp_path))
    client = Seal.client(lambda key: key == context.fingerprint)
    client.send(b"a secret")
    carry(client, between)
    assert refusal(lambda: carry(between, client)).code == "untrusted"
    assert client.outgoing() == []
    assert not between.established


def test_a_client_that_knows_no_tls_1_3_is_refused(context: SealingContext) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    hello = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        old.wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    error = refusal(lambda: Seal.server(context).receive(sealed_data(hello.read())))
    assert (error.code, "unsupported protocol" in str(error)) == ("tls", True)


def test_a_server_that_knows_no_tls_1_3_is_refused(state: Path) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.load_cert_chain(state / CERTIFICATE_FILE, state / BRIDGE_KEY_FILE)
    client = Seal.client(lambda key: True)
    arrived, answer = ssl.MemoryBIO(), ssl.MemoryBIO()
    (hello,) = client.outgoing()
    arrived.write(tls_of(hello))
    with pytest.raises(ssl.SSLError):
        old.wrap_bio(arrived, answer, server_side=True).do_handshake()
    assert refusal(lambda: client.receive(sealed_data(answer.read()))).code == "tls"


def test_noise_is_no_handshake(context: SealingContext) -> None:
    assert refusal(lambda: Seal.server(context).receive(sealed_data(b"GET / HTTP/1.1\r\n\r\n"))).code == "tls"


# Forward secrecy: what was recorded stays sealed when the key is stolen later


def test_a_session_is_tls_1_3_with_a_fresh_key_and_is_never_resumed(context: SealingContext) -> None:
    client, server = opened(context)
    client.send(b"x")
    server.send(b"y")
    settle(client, server)
    for end in (client._tls, server._tls):
        assert end.version() == "TLSv1.3"
        assert end.cipher() in SUITES
        assert not end.session_reused
    assert client._tls.session is not None
    assert not client._tls.session.has_ticket
    assert context.tls.num_tickets == 0


def test_the_client_offers_a_key_exchange_in_every_hello_and_no_shared_key() -> None:
    (payload,) = Seal.client(lambda key: True).outgoing()
    suites, extensions = client_hello(tls_of(payload))
    assert suites <= {0x1301, 0x1302, 0x1303, 0x00FF}
    assert extensions[43][1:] == b"\x03\x04"  # supported_versions: 1.3 alone (RFC 8446 §4.2.1)
    assert len(extensions[51]) > 32  # key_share: an ephemeral public key
    assert 41 not in extensions  # pre_shared_key
    assert extensions.get(45, b"\x01\x01") == b"\x01\x01"  # psk_key_exchange_modes: with (EC)DHE only


def client_hello(data: bytes) -> tuple[set[int], dict[int, bytes]]:
    """The suites and the extensions of a ClientHello in one record (RFC 8446 §4.1.2)."""
    assert data[0] == 22
    body = data[9:]
    body = body[34:]
    body = body[1 + body[0] :]
    size = int.from_bytes(body[:2], "big")
    suites = {int.from_bytes(body[at : at + 2], "big") for at in range(2, 2 + size, 2)}
    body = body[2 + size :]
    body = body[1 + body[0] + 2 :]
    extensions = {}
    while body:
        kind, length = int.from_bytes(body[:2], "big"), int.from_bytes(body[2:4], "big")
        extensions[kind] = body[4 : 4 + length]
        body = body[4 + length :]
    return suites, extensions


def test_two_sessions_of_the_same_words_have_nothing_in_common(context: SealingContext) -> None:
    recorded = []
    for _ in range(2):
        client, server = opened(context)
        client.send(b"the same words")
        recorded.append(client.outgoing())
        server.send(b"the same words")
        recorded.append(server.outgoing())
    assert len({payload for payloads in recorded for payload in payloads}) == 4


# Messages


@pytest.mark.parametrize("size", [0, 1, 5, 16 * 1024, MAX_DATA, WINDOW, WINDOW + 1, 5 * MIB])
def test_a_message_of_any_size_passes_both_ways(context: SealingContext, size: int) -> None:
    client, server = opened(context)
    message = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    client.send(message)
    server.send(message)
    assert settle(client, server) == ([message], [message])


Script = list[tuple[bool, int]]


@settings(max_examples=60, deadline=None)
@given(
    script=st.lists(
        st.tuples(st.booleans(), st.one_of(st.integers(0, 400), st.integers(0, 3 * WINDOW))), min_size=1, max_size=12
    ),
    turns=st.lists(st.sampled_from(["there", "back", "release there", "release back"]), max_size=40),
)
def test_messages_arrive_whole_and_in_order_however_they_are_relayed(
    context: SealingContext, script: Script, turns: list[str]
) -> None:
    client, server = opened(context)
    sent: dict[bool, list[bytes]] = {True: [], False: []}
    came: dict[bool, list[bytes]] = {True: [], False: []}
    steps = iter(turns)
    for number, (forth, size) in enumerate(script):
        message = hashlib.sha256(bytes([number])).digest() * (size // 32) + b"." * (size % 32)
        (client if forth else server).send(message)
        sent[forth].append(message)
        _turn(next(steps, "there"), client, server, came)
    for _ in range(2000):
        if came == sent:
            break
        for turn in ("there", "back", "release there", "release back"):
            _turn(turn, client, server, came)
    assert came == sent
    assert (client.pending, server.pending) == (0, 0)


def _turn(turn: str, client: Seal, server: Seal, came: dict[bool, list[bytes]]) -> None:
    if turn == "there":
        came[True] += carry(client, server)
    elif turn == "back":
        came[False] += carry(server, client)
    else:
        (server if turn.endswith("there") else client).release()


def tls_of(payload: bytes) -> bytes:
    value = parse_sealed(payload)[1]
    assert isinstance(value, bytes)
    return value


def recut(payloads: Iterable[bytes], size: int) -> list[bytes]:
    """The same bytes of TLS in payloads of another size."""
    tls = b"".join(map(tls_of, payloads))
    return [sealed_data(tls[at : at + size]) for at in range(0, len(tls), size)]


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 700), lengths=st.lists(st.integers(0, 900), min_size=1, max_size=5))
def test_how_the_bytes_are_cut_does_not_matter(context: SealingContext, size: int, lengths: list[int]) -> None:
    client, server = Seal.client(lambda key: True), Seal.server(context)
    messages = [b"m" * length for length in lengths]
    for message in messages:
        client.send(message)
    came: list[bytes] = []
    for _ in range(2):
        for payload in recut(client.outgoing(), size):
            came += server.receive(payload)
        for payload in recut(server.outgoing(), size):
            client.receive(payload)
    assert came == messages


def test_a_payload_holds_at_most_48_kib(context: SealingContext) -> None:
    client, server = opened(context)
    client.send(b"x" * MIB)
    sizes = [len(tls_of(payload)) for payload in client.outgoing()]
    assert max(sizes) == MAX_DATA
    assert refusal(lambda: server.receive(sealed_data(bytes(MAX_DATA + 1)))).code == "size"


def test_many_small_messages_share_a_payload(context: SealingContext) -> None:
    client, server = opened(context)
    for number in range(500):
        client.send(b"%d" % number)
    payloads = client.outgoing()
    assert len(payloads) == 1
    assert server.receive(payloads[0]) == [b"%d" % number for number in range(500)]


# Limits


def test_a_message_above_the_limit_is_refused_by_its_length_alone(context: SealingContext) -> None:
    client, server = opened(context, max_message=1000)
    client.send(bytes(1000))
    assert settle(client, server)[1] == [bytes(1000)]
    client.send(bytes(1001))
    error = refusal(lambda: settle(client, server))
    assert (error.code, "1001 bytes" in str(error)) == ("size", True)
    assert not server._partial


def test_a_stranger_may_send_what_a_stranger_may_on_any_connection(context: SealingContext) -> None:
    assert Seal.server(context).max_message == Limits().frame_unauthenticated
    client, server = Seal.client(lambda key: True), Seal.server(context)
    client.send(bytes(Limits().frame_unauthenticated + 1))
    assert refusal(lambda: settle(client, server)).code == "size"


def test_the_limit_of_an_open_session_can_be_raised(context: SealingContext) -> None:
    client, server = opened(context, max_message=10)
    server.max_message = 20
    client.send(bytes(20))
    assert settle(client, server)[1] == [bytes(20)]


# The window


def test_what_is_not_consumed_stops_the_sender(context: SealingContext) -> None:
    client, server = opened(context)
    for _ in range(100):
        client.send(bytes(10_000))
    settle(client, server)
    assert WINDOW - MAX_DATA <= client._travelling <= WINDOW
    assert not client.writable
    assert client.pending > 700_000
    assert client.outgoing() == []


def test_consuming_half_a_window_lets_the_sender_go_on(context: SealingContext) -> None:
    client, server = opened(context)
    for _ in range(100):
        client.send(bytes(10_000))
    came = len(settle(client, server)[1])
    server.release()
    (credit,) = server.outgoing()
    assert parse_sealed(credit)[0] == "credit"
    assert int(credit[1:]) >= WINDOW // 2
    assert client.receive(credit) == []
    assert len(settle(client, server)[1]) > 0
    for _ in range(20):
        server.release()
        came += len(settle(client, server)[1])
    assert client.writable


def test_less_than_half_a_window_is_not_credited_yet(context: SealingContext) -> None:
    client, server = opened(context)
    client.send(bytes(WINDOW // 2 - 5000))
    settle(client, server)
    server.release()
    assert server.outgoing() == []


def test_the_pieces_of_a_large_message_are_credited_as_they_come(context: SealingContext) -> None:
    client, server = opened(context)
    client.send(bytes(5 * MIB))
    peak = 0
    while client.pending:
        carry(client, server)
        peak = max(peak, client._out.pending)
        carry(server, client)
    assert peak <= MAX_DATA


def test_a_sender_beyond_the_window_loses_the_session(context: SealingContext) -> None:
    client, server = opened(context)
    for _ in range(100):
        client.send(bytes(10_000))
    settle(client, server)
    client._travelling = 0
    assert refusal(lambda: settle(client, server)).code == "window"
    assert refusal(lambda: server.send(b"x")).code == "closed"


def test_who_has_tls_answer_and_credits_nothing_loses_the_session(context: SealingContext) -> None:
    client, server = opened(context)
    server._out.write(bytes(WINDOW + 1))  # what OpenSSL does by itself for each new key that the other end asks for
    client.send(b"x")
    (payload,) = client.outgoing()
    assert refusal(lambda: server.receive(payload)).code == "window"


def test_credit_for_more_than_was_sent_loses_the_session(context: SealingContext) -> None:
    client, _ = opened(context)
    assert refusal(lambda: client.receive(sealed_credit(client._travelling + 1))).code == "window"


@pytest.mark.parametrize("payload", [b"^", b"^-1", b"^x", b"^9999999999", b"~?", b"~YQ", b"{}", b""])
def test_what_is_no_payload_loses_the_session(context: SealingContext, payload: bytes) -> None:
    client, _ = opened(context)
    assert refusal(lambda: client.receive(payload)).code == "tls"
    assert client.outgoing() == []


# Whoever relays, and does not only relay


def lines(client: Seal, count: int) -> list[bytes]:
    """The payloads of so many messages, one each."""
    payloads: list[bytes] = []
    for number in range(count):
        client.send(b"message %d" % number)
        payloads += client.outgoing()
    return payloads


@settings(max_examples=40, deadline=None)
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_ends_the_session(context: SealingContext, at: int, bit: int) -> None:
    client, server = opened(context)
    (payload,) = lines(client, 1)
    tls = bytearray(tls_of(payload))
    tls[at % len(tls)] ^= 1 << bit
    try:
        came = server.receive(sealed_data(bytes(tls)))
        # A record that claims to be longer waits for the rest of it; what follows then does not fit.
        for later in lines(client, 40):
            came += server.receive(later)
    except SealError as error:
        assert error.code == "tls"  # noqa: PT017  # either way of failing is one
        assert server.outgoing() == []
    else:
        assert came == []
        assert len(server._partial) == 0


def test_a_flipped_bit_in_the_handshake_ends_it(context: SealingContext) -> None:
    client, server = Seal.client(lambda key: True), Seal.server(context)
    carry(client, server)
    (flight,) = server.outgoing()
    tls = bytearray(tls_of(flight))
    tls[len(tls) // 2] ^= 1
    assert refusal(lambda: client.receive(sealed_data(bytes(tls)))).code == "tls"
    assert client.peer_key == ""


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(lambda sent: [sent[1], *sent[2:]], id="lost"),
        pytest.param(lambda sent: [sent[1], sent[0], *sent[2:]], id="reordered"),
        pytest.param(lambda sent: [sent[0], sent[0], *sent[1:]], id="repeated"),
        pytest.param(lambda sent: [recut([sent[0]], 20)[0], *sent[1:]], id="truncated"),
    ],
)
def test_a_stream_that_is_not_the_one_that_was_sent_ends_the_session(
    context: SealingContext, tamper: Callable[[list[bytes]], list[bytes]]
) -> None:
    client, server = opened(context)
    altered = tamper(lines(client, 10))
    assert refusal(lambda: [server.receive(payload) for payload in altered]).code == "tls"


def test_payloads_of_another_session_end_this_one(context: SealingContext) -> None:
    _, server = opened(context)
    other, _ = opened(context)
    (payload,) = lines(other, 1)
    assert refusal(lambda: server.receive(payload)).code == "tls"


def test_the_end_is_told_with_its_reason(context: SealingContext) -> None:
    client, _ = opened(context)
    error = refusal(lambda: client.receive(sealed_close("the server stops")))
    assert (error.code, "the server stops" in str(error)) == ("closed", True)
    again = refusal(lambda: client.receive(sealed_data(b"")))
    assert (again.code, "the server stops" in str(again)) == ("closed", True)


def test_the_end_of_tls_is_an_end_too(context: SealingContext) -> None:
    client, server = opened(context)
    with pytest.raises(ssl.SSLWantReadError):
        client._tls.unwrap()
    assert refusal(lambda: carry(client, server)).code == "closed"


# The server's context


def test_key_and_certificate_are_made_once(tmp_path: Path) -> None:
    first = sealing_context(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CERTIFICATE_FILE, BRIDGE_KEY_FILE]
    again = sealing_context(tmp_path)
    assert (again.fingerprint, again.binding) == (first.fingerprint, first.binding)
    assert (tmp_path / BRIDGE_KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_the_certificate_says_nothing_of_the_machine(tmp_path: Path) -> None:
    from cryptography import x509

    sealing_context(tmp_path)
    made = x509.load_pem_x509_certificate((tmp_path / CERTIFICATE_FILE).read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["sysadmd"]
    assert [attribute.value for attribute in made.subject] == ["sysadmd"]


def test_another_ones_certificate_is_not_used(context: SealingContext, state: Path, tmp_path: Path) -> None:
    mine = sealing_context(tmp_path)
    (tmp_path / CERTIFICATE_FILE).write_bytes((state / CERTIFICATE_FILE).read_bytes())
    assert sealing_context(tmp_path).fingerprint == mine.fingerprint != context.fingerprint


def test_a_certificate_of_another_key_is_made_again(tmp_path: Path) -> None:
    first = sealing_context(tmp_path)
    (tmp_path / BRIDGE_KEY_FILE).unlink()
    second = sealing_context(tmp_path)
    assert second.fingerprint != first.fingerprint
    assert second.fingerprint == bridge_key(tmp_path).public.fingerprint


def test_an_expired_certificate_is_made_again_for_the_same_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge_key(tmp_path)
    cert, key = tmp_path / CERTIFICATE_FILE, tmp_path / BRIDGE_KEY_FILE
    old = self_signed(cert, key, ["sysadmd"], private_key, now=1_000_000_000.0)
    context = sealing_context(tmp_path)
    assert context.fingerprint == bridge_key(tmp_path).public.fingerprint
    assert validity(ssl.PEM_cert_to_DER_cert(cert.read_text()))[1] > old.not_after + 365 * 86400


def test_an_ed25519_key_seals_as_well(tmp_path: Path) -> None:
    from tests.unit.keys.openssl import make_key

    make_key(tmp_path, "ed25519", "made").rename(tmp_path / BRIDGE_KEY_FILE)
    client, server = opened(sealing_context(tmp_path))
    client.send(b"x")
    assert settle(client, server)[1] == [b"x"]


@pytest.mark.parametrize("name", [BRIDGE_KEY_FILE, CERTIFICATE_FILE])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    sealing_context(tmp_path)
    (tmp_path / name).write_text("damaged")
    with pytest.raises(StateError, match=name):
        sealing_context(tmp_path)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="file"):
        sealing_context(tmp_path / "file" / "state")
