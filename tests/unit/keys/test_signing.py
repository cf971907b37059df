"""Keys and proofs: the originals' own vectors, and what the openssl program makes."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.errors import BadRequest
from sysadmd.keys.signing import (
    AT_BRIDGE,
    CLASSIC_CHALLENGE,
    DOMAIN,
    MAX_SIGNATURE,
    PrivateKey,
    answer_to,
    parse,
    recover,
    signature_in,
    verify,
)
from tests.unit.keys.openssl import (
    make_certificate,
    make_key,
    openssl,
    public_key,
    sign_classic,
    sign_ed25519,
    sign_pss,
)
from tests.unit.keys.vectors import CHALLENGE, CHECKSUM, ENCRYPTED_STRING, REGISTERED_KEY

LONG = "Zq7" * 66 + "ab"
RSA = ("rsa-2048", "rsa-4096")


def test_the_registered_form_of_the_originals_is_read_and_written_back() -> None:
    key = parse(REGISTERED_KEY)
    assert (key.kind, key.size, len(key.pem)) == ("rsa", 256, 451)
    assert key.registered == REGISTERED_KEY


def test_the_checksum_is_that_of_the_originals() -> None:
    assert parse(REGISTERED_KEY).checksum == CHECKSUM


def test_the_proof_of_an_original_client_is_recovered() -> None:
    signature = base64.b64decode(ENCRYPTED_STRING)
    assert recover(parse(REGISTERED_KEY).pem, signature) == CHALLENGE.encode()


@pytest.mark.parametrize("at", [0, 1, 128, 255])
def test_a_proof_with_one_bit_changed_recovers_nothing(at: int) -> None:
    signature = bytearray(base64.b64decode(ENCRYPTED_STRING))
    signature[at] ^= 1
    assert recover(parse(REGISTERED_KEY).pem, bytes(signature)) != CHALLENGE.encode()


@pytest.mark.parametrize("kind", RSA)
def test_a_classic_proof_of_openssl_is_recovered(tmp_path: Path, kind: str) -> None:
    private = make_key(tmp_path, kind)
    assert recover(parse(public_key(private)).pem, sign_classic(private, LONG)) == LONG.encode()


@pytest.mark.parametrize("kind", RSA)
def test_our_classic_proof_is_that_of_openssl(tmp_path: Path, kind: str) -> None:
    private = make_key(tmp_path, kind)
    assert PrivateKey.load(private.read_bytes()).sign_classic(LONG) == sign_classic(private, LONG)


@pytest.mark.parametrize("kind", RSA)
def test_a_pss_proof_of_openssl_is_good(tmp_path: Path, kind: str) -> None:
    private = make_key(tmp_path, kind)
    pem = parse(public_key(private)).pem
    assert verify(pem, "rsa-pss-sha256", LONG, sign_pss(private, DOMAIN + LONG.encode()))


def test_an_ed25519_proof_of_openssl_is_good(tmp_path: Path) -> None:
    private = make_key(tmp_path, "ed25519")
    assert verify(parse(public_key(private)).pem, "ed25519", LONG, sign_ed25519(private, DOMAIN + LONG.encode()))


@pytest.mark.parametrize("kind", [*RSA, "ed25519"])
def test_our_modern_proof_is_good_for_its_challenge_only(tmp_path: Path, kind: str) -> None:
    key = PrivateKey.load(make_key(tmp_path, kind).read_bytes())
    algorithm, signature = key.sign(LONG)
    assert verify(key.public.pem, algorithm, LONG, signature)
    assert not verify(key.public.pem, algorithm, LONG[:-1], signature)


@pytest.mark.parametrize("kind", ["rsa-2048", "ed25519"])
def test_a_bound_proof_is_good_for_its_binding_only(tmp_path: Path, kind: str) -> None:
    key = PrivateKey.load(make_key(tmp_path, kind).read_bytes())
    algorithm, signature = key.sign(LONG, "ab" * 32)
    assert verify(key.public.pem, algorithm, LONG, signature, "ab" * 32)
    assert not verify(key.public.pem, algorithm, LONG, signature, "ac" * 32)
    assert not verify(key.public.pem, algorithm, LONG, signature)


def test_what_a_bound_proof_signs_can_be_said_in_one_piece(tmp_path: Path) -> None:
    key = make_key(tmp_path, "ed25519")
    _, signature = PrivateKey.load(key.read_bytes()).sign("C" * 200, "ab" * 32)
    assert signature == sign_ed25519(key, DOMAIN + b"C" * 200 + b"ab" * 32)


@pytest.mark.parametrize("challenge", ["", "C" * 201, "C" * 200 + "ab" * 32, "with blanks", "null\0", "\u0663"])
def test_a_challenge_that_could_hold_a_binding_is_not_signed(tmp_path: Path, challenge: str) -> None:
    key = PrivateKey.load(make_key(tmp_path, "ed25519").read_bytes())
    with pytest.raises(ValueError, match="up to 200 letters and digits"):
        key.sign(challenge)


@pytest.mark.parametrize("binding", [AT_BRIDGE, "ab" * 32])
def test_a_challenge_that_becomes_another_ones_with_the_binding_is_not_signed(tmp_path: Path, binding: str) -> None:
    """A server's challenge ends with `bridge` once in 62 ** 6 times, and whoever runs a bridge would wait for it."""
    key = PrivateKey.load(make_key(tmp_path, "ed25519").read_bytes())
    with pytest.raises(ValueError, match="not 200 letters and digits"):
        key.sign("C" * (200 - len(binding)), binding)


def test_a_proof_without_the_domain_is_none(tmp_path: Path) -> None:
    """A signature over the bare text could have been made for anything."""
    rsa, edwards = make_key(tmp_path, "rsa-2048", "rsa"), make_key(tmp_path, "ed25519", "edwards")
    assert not verify(public_key(rsa), "rsa-pss-sha256", LONG, sign_pss(rsa, LONG.encode()))
    assert not verify(public_key(edwards), "ed25519", LONG, sign_ed25519(edwards, LONG.encode()))


def test_a_proof_of_another_key_is_none(tmp_path: Path) -> None:
    one, other = (PrivateKey.load(make_key(tmp_path, "ed25519", name).read_bytes()) for name in ("one", "other"))
    assert not verify(other.public.pem, *_swapped(one.sign(LONG)))


def _swapped(signed: tuple[str, bytes]) -> tuple[str, str, bytes]:
    return signed[0], LONG, signed[1]


@pytest.mark.parametrize("algorithm", ["ed25519", "", "rsa", "none", "rsa-pss-sha1"])
def test_an_algorithm_that_is_not_the_keys_verifies_nothing(tmp_path: Path, algorithm: str) -> None:
    private = make_key(tmp_path, "rsa-2048")
    assert not verify(public_key(private), algorithm, LONG, sign_pss(private, DOMAIN + LONG.encode()))


@given(st.binary(max_size=600), st.text(max_size=20))
def test_what_a_stranger_sends_proves_nothing_and_raises_nothing(signature: bytes, algorithm: str) -> None:
    pem = parse(REGISTERED_KEY).pem
    assert recover(pem, signature) != CHALLENGE.encode()
    assert not verify(pem, algorithm, CHALLENGE, signature)
    assert not verify("no key at all", "ed25519", CHALLENGE, signature)


def test_a_signature_above_the_modulus_recovers_nothing() -> None:
    assert recover(parse(REGISTERED_KEY).pem, b"\xff" * 256) is None


def test_an_ed25519_key_recovers_nothing(tmp_path: Path) -> None:
    assert recover(public_key(make_key(tmp_path, "ed25519")), b"x" * 64) is None


@pytest.mark.parametrize("kind", [*RSA, "ed25519"])
def test_every_form_of_a_key_is_the_same_key(tmp_path: Path, kind: str) -> None:
    private = make_key(tmp_path, kind)
    pem = public_key(private)
    certificate = make_certificate(private).read_text()
    untidy = pem.replace("\n", "\r\n") + "\n\n"
    keys = [parse(text) for text in (pem, base64.b64encode(pem.encode()).decode(), untidy, certificate)]
    assert {key.fingerprint for key in keys} == {keys[0].fingerprint}
    assert {key.pem for key in keys} == {pem}


def test_the_fingerprint_is_the_hash_of_the_public_key_in_der(tmp_path: Path) -> None:
    private = make_key(tmp_path, "rsa-2048")
    der = openssl("pkey", "-in", private, "-pubout", "-outform", "DER")
    digest = openssl("dgst", "-sha256", "-r", stdin=der).decode().split()[0]
    assert parse(public_key(private)).fingerprint == digest


def test_a_certificate_is_kept_beside_its_key(tmp_path: Path) -> None:
    private = make_key(tmp_path, "rsa-2048")
    pem = make_certificate(private).read_text()
    assert parse(pem).certificate == pem
    assert parse(public_key(private)).certificate is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "-----BEGIN PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "é",
        "A" * 70000,
        base64.b64encode(REGISTERED_KEY.encode()).decode(),
    ],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="the key cannot be used"):
        parse(text)


@pytest.mark.parametrize("kind,reason", [("rsa-1024", "1024 bits"), ("p256", "expected an RSA or Ed25519 key, got EC")])
def test_a_weak_key_and_another_kind_are_refused(tmp_path: Path, kind: str, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        parse(public_key(make_key(tmp_path, kind)))


def test_a_private_key_is_not_taken_for_a_public_one(tmp_path: Path) -> None:
    with pytest.raises(BadRequest):
        parse(make_key(tmp_path, "rsa-2048").read_text())


@pytest.mark.parametrize("challenge", ["", "with blank", "0!\x00", "ä" * 20, "a" * 246])
def test_the_classic_proof_signs_nothing_that_could_mean_something(tmp_path: Path, challenge: str) -> None:
    key = PrivateKey.load(make_key(tmp_path, "rsa-2048").read_bytes())
    with pytest.raises(ValueError, match="letters and digits"):
        key.sign_classic(challenge)


@pytest.mark.parametrize("length", [20, 40, 128, 200, 245])
def test_every_length_of_the_originals_can_be_proven(tmp_path: Path, length: int) -> None:
    key = PrivateKey.load(make_key(tmp_path, "rsa-2048").read_bytes())
    assert recover(key.public.pem, key.sign_classic("Q" * length)) == b"Q" * length


def test_a_classic_proof_needs_rsa(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs an RSA key"):
        PrivateKey.load(make_key(tmp_path, "ed25519").read_bytes()).sign_classic("abc")


def test_a_private_key_of_ssh_keygen_is_read(tmp_path: Path) -> None:
    import subprocess

    path = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    assert PrivateKey.load(path.read_bytes()).public.kind == "ed25519"


@pytest.mark.parametrize("kind,reason", [("rsa-1024", "1024 bits"), ("p256", "not an RSA or Ed25519 key")])
def test_a_private_key_that_no_server_takes_is_refused(tmp_path: Path, kind: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        PrivateKey.load(make_key(tmp_path, kind).read_bytes())


def test_an_encrypted_private_key_says_so(tmp_path: Path) -> None:
    path = tmp_path / "locked.key"
    openssl("genpkey", "-algorithm", "ED25519", "-aes256", "-pass", "pass:secret", "-out", path)
    with pytest.raises(ValueError, match="encrypted"):
        PrivateKey.load(path.read_bytes())


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_a_generated_key_is_kept_as_openssl_reads_it(tmp_path: Path, kind: Literal["rsa", "ed25519"]) -> None:
    key, file = PrivateKey.generate(kind), tmp_path / "made.key"
    file.write_bytes(key.pem)
    assert public_key(file) == key.public.pem == PrivateKey.load(key.pem).public.pem


def test_a_broken_private_key_is_not_quoted() -> None:
    with pytest.raises(ValueError, match="not a private key in PEM") as caught:
        PrivateKey.load(b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    assert "c2VjcmV0" not in str(caught.value)


@pytest.mark.parametrize("text", [None, 5, "", "no base64", "é", "A" * (MAX_SIGNATURE + 1)])
def test_a_signature_that_is_none_is_empty(text: object) -> None:
    assert signature_in(text) == b""


def test_a_signature_of_full_length_is_taken() -> None:
    assert signature_in("A" * MAX_SIGNATURE) == bytes(MAX_SIGNATURE // 4 * 3)


@pytest.mark.parametrize(
    "length,binding,names",
    [
        (CLASSIC_CHALLENGE - 1, "", {"encrypted_string"}),
        (CLASSIC_CHALLENGE, "", {"key", "algorithm", "signature"}),
        (200, AT_BRIDGE, {"key", "algorithm", "signature"}),
    ],
)
def test_a_short_challenge_is_answered_as_the_originals_do(length: int, binding: str, names: set[str]) -> None:
    assert answer_to("C" * length, PrivateKey.generate(), binding).keys() == names
