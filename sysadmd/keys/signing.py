"""Public keys that log in: their forms, their names, and the two kinds of proof.

A registered key is, in the originals' words, base64 of the PEM text of its SubjectPublicKeyInfo (spec sysadm §3.5). Its
names are the *checksum* of the originals (MD5 of that text: a name, nobody relies on it for more) and the
*fingerprint*, SHA-256 of the DER.

The *classic* proof is the challenge itself under PKCS#1 v1.5 padding of type 1, without a hash and without a
DigestInfo: whoever signs so signs whatever the server sends. A signer of ours therefore takes nothing but letters and
digits, which no structure that means something elsewhere consists of. The *modern* proof, Ed25519 or RSA-PSS, signs the
challenge behind a text that no other protocol signs.

In a sealed session (sysadmd.keys.seal) the modern proof is the only one, and signs the challenge followed by the
session's *binding*: the SHA-256 of the server's certificate in DER, 64 lower-case hexadecimal digits. Whoever has a
client sign for one server can do nothing with it at another, whose certificate differs. Nor can a server, or a bridge,
have it signed as a challenge: no signer of ours takes one of more than 200 characters, and a challenge of that length
with a binding behind it is longer; nor does one sign a shorter one with a binding. At a bridge the binding is
`AT_BRIDGE`, so that whoever runs one cannot use the log-ins of its peers at servers that know the same keys.

`cryptography` costs a third of a second to import and is imported by the first who needs it. What comes from a stranger
is never a reason to raise: it recovers nothing and verifies nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sysadmd.errors import BadRequest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.padding import PSS
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509 import Certificate

Algorithm = Literal["ed25519", "rsa-pss-sha256"]

MAX_TEXT = 64 * 1024
"""Characters of a key or certificate as given: an RSA-8192 certificate has a twelfth of it."""
RSA_BITS = (2048, 8192)
"""Below, a key can be factored; above, a stranger's signature costs milliseconds to check."""
RSA_EXPONENT = (3, 2**32)
"""The originals use 65537; a longer exponent only makes checking slow."""
DOMAIN = b"sysadmd auth_ssl v1\0"
"""What stands before the challenge in a modern proof, so that it is good for nothing else."""
AT_BRIDGE = "bridge"
"""The binding of a proof for a bridge."""
MAX_SIGNATURE = 2048
"""Characters of a signature in base64: RSA-8192 has 1,368."""
CLASSIC_CHALLENGE = 128
"""Characters of a challenge below which an original program asks, which knows the classic proof only (spec §3.5)."""
MAX_CHALLENGE = 200
"""Characters of a challenge that is signed: what servers of ours send."""
PADDING = 11
"""Bytes that PKCS#1 v1.5 adds at least (RFC 8017 §9.2)."""
_CHALLENGE = re.compile(r"[A-Za-z0-9]+")
_EXPECTED = "expected an RSA or Ed25519 public key (PEM, or base64 of PEM) or an X.509 certificate in PEM"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key, normalised. `size`: bytes of its signatures. `certificate`: PEM of the one that it came in."""

    kind: Literal["rsa", "ed25519"]
    size: int
    pem: str
    fingerprint: str
    certificate: str | None = None

    @property
    def checksum(self) -> str:
        """Base64 of the MD5 of the PEM text: what the originals call a key by."""
        digest = hashlib.md5(self.pem.encode("ascii"), usedforsecurity=False).digest()
        return base64.b64encode(digest).decode("ascii")

    @property
    def registered(self) -> str:
        """The form in which the originals write a key: base64 of the PEM text."""
        return base64.b64encode(self.pem.encode("ascii")).decode("ascii")


def parse(text: str) -> PublicKey:
    """The key in `text`: PEM of a public key, base64 of such PEM, or PEM of an X.509 certificate.

    Raises BadRequest for anything else, and for a key that is too weak or of another kind.
    """
    if len(text) > MAX_TEXT:
        raise _refused(f"longer than {MAX_TEXT} characters")
    pem = _pem(text)
    if "-----BEGIN CERTIFICATE-----" in pem:
        return _of_certificate(pem)
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return _checked(load_pem_public_key(pem.encode("ascii")))
    except BadRequest:
        raise
    except Exception as error:  # the library has many names for text that is no key
        raise _refused(_EXPECTED) from error


def certified(key: PublicKey, certificate: str) -> PublicKey:
    """The key with the X.509 certificate (PEM) that is its own. Raises BadRequest when it is another key's."""
    text = _pem(certificate)
    found = _of_certificate(text) if "-----BEGIN CERTIFICATE-----" in text else None
    if found is None or found.fingerprint != key.fingerprint:
        raise BadRequest("args.certificate: expected an X.509 certificate of this key", path="args.certificate")
    return found


def fingerprint(der: bytes) -> str:
    """The name of a SubjectPublicKeyInfo: SHA-256 of its DER, hexadecimal."""
    return hashlib.sha256(der).hexdigest()


def signature_in(text: object) -> bytes:
    """A signature in base64, as it comes from a stranger; b"" for what is none, which proves nothing."""
    if not isinstance(text, str) or len(text) > MAX_SIGNATURE:
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def recover(pem: str, signature: bytes) -> bytes | None:
    """The text under a classic signature; None when it is none of this key."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem.encode("ascii"))
        if not isinstance(key, RSAPublicKey):
            return None
        return key.recover_data_from_signature(signature, PKCS1v15(), None)
    except Exception:  # noqa: BLE001  # whatever a stranger's bytes do inside the library, they prove nothing
        return None


def verify(pem: str, algorithm: str, challenge: str, signature: bytes, binding: str = "") -> bool:
    """Whether `signature` is the modern proof of this key for `challenge`, in a session that is bound to `binding`."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    text = DOMAIN + challenge.encode() + binding.encode()
    try:
        key = load_pem_public_key(pem.encode("ascii"))
        if algorithm == "ed25519" and isinstance(key, Ed25519PublicKey):
            key.verify(signature, text)
        elif algorithm == "rsa-pss-sha256" and isinstance(key, RSAPublicKey):
            key.verify(signature, text, *_pss())
        else:
            return False
    except Exception:  # noqa: BLE001  # as in `recover`
        return False
    return True


class PrivateKey:
    """The private half, for clients: it signs challenges and nothing else."""

    def __init__(self, key: RSAPrivateKey | Ed25519PrivateKey) -> None:
        self._key = key
        self.public = _checked(key.public_key())

    @classmethod
    def generate(cls, kind: Literal["rsa", "ed25519"] = "rsa") -> PrivateKey:
        """A new key; RSA has 2048 bits, as those of the originals."""
        from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

        if kind == "ed25519":
            return cls(ed25519.Ed25519PrivateKey.generate())
        return cls(rsa.generate_private_key(public_exponent=65537, key_size=2048))

    @classmethod
    def load(cls, data: bytes, password: bytes | None = None) -> PrivateKey:
        """The RSA or Ed25519 key in PEM or OpenSSH text. Raises ValueError, whose text never quotes the key."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

        openssh = b"-----BEGIN OPENSSH PRIVATE KEY-----" in data
        load = serialization.load_ssh_private_key if openssh else serialization.load_pem_private_key
        try:
            key = load(data, password)
        except TypeError as error:
            raise ValueError("the private key is encrypted; decrypt it first") from error
        except Exception as error:
            raise ValueError("not a private key in PEM") from error
        if not isinstance(key, (RSAPrivateKey, Ed25519PrivateKey)):
            raise ValueError("not an RSA or Ed25519 key")  # noqa: TRY004  # the file is wrong, not the call
        try:
            return cls(key)
        except BadRequest as error:
            raise ValueError(str(error)) from None

    @property
    def pem(self) -> bytes:
        """The key itself, unencrypted (PKCS#8 in PEM): for the file that keeps it, readable by its owner alone."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, challenge: str, binding: str = "") -> tuple[Algorithm, bytes]:
        """The modern proof for a challenge, in a session that is bound to `binding`. Raises ValueError for a challenge
        that is not up to 200 letters and digits, and to a binding one of 200: with more there could be a binding in it,
        and with less it could, together with the binding, be the whole challenge of somebody else.
        """
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

        if not _CHALLENGE.fullmatch(challenge) or len(challenge) > MAX_CHALLENGE:
            raise ValueError(f"the challenge is not up to {MAX_CHALLENGE} letters and digits")
        if binding and len(challenge) < MAX_CHALLENGE:
            raise ValueError(f"the challenge for a bound proof is not {MAX_CHALLENGE} letters and digits")
        text = DOMAIN + challenge.encode() + binding.encode()
        if isinstance(self._key, RSAPrivateKey):
            return "rsa-pss-sha256", self._key.sign(text, *_pss())
        return "ed25519", self._key.sign(text)

    def sign_classic(self, challenge: str) -> bytes:
        """The classic proof. Raises ValueError for another key than RSA, and for a challenge that is not made of
        letters and digits or does not fit: signing it could mean something elsewhere.
        """
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

        if not isinstance(self._key, RSAPrivateKey):
            raise ValueError("the classic proof needs an RSA key")  # noqa: TRY004  # as in `load`
        size = self.public.size
        if not _CHALLENGE.fullmatch(challenge) or len(challenge) > size - PADDING:
            raise ValueError(f"the challenge is not up to {size - PADDING} letters and digits")
        text = challenge.encode("ascii")
        block = b"\x00\x01" + b"\xff" * (size - 3 - len(text)) + b"\x00" + text
        private = self._key.private_numbers()
        modulus, exponent = private.public_numbers.n, private.public_numbers.e
        # Blinded: the time of the power must not tell about the key.
        blind = secrets.randbelow(modulus - 2) + 2
        power = pow(int.from_bytes(block, "big") * pow(blind, exponent, modulus) % modulus, private.d, modulus)
        return (power * pow(blind, -1, modulus) % modulus).to_bytes(size, "big")


def answer_to(challenge: str, key: PrivateKey, binding: str = "") -> dict[str, str]:
    """The args of `rpc/auth_ssl` that answer a challenge: the classic proof to a short one where there is no binding,
    else the modern one. Raises ValueError for a challenge that the key does not sign.
    """
    if len(challenge) < CLASSIC_CHALLENGE and not binding:
        return {"encrypted_string": base64.b64encode(key.sign_classic(challenge)).decode("ascii")}
    algorithm, signature = key.sign(challenge, binding)
    text = base64.b64encode(signature).decode("ascii")
    return {"key": key.public.fingerprint, "algorithm": algorithm, "signature": text}


def _pss() -> tuple[PSS, SHA256]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    digest = hashes.SHA256()
    return padding.PSS(padding.MGF1(digest), digest.digest_size), digest


def _pem(text: str) -> str:
    """PEM as it is, or what is inside one layer of base64."""
    if not text.isascii():
        raise _refused(_EXPECTED)
    if "-----BEGIN " in text:
        return text
    try:
        inner = base64.b64decode("".join(text.split()), validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise _refused(_EXPECTED) from error
    if "-----BEGIN " not in inner:
        raise _refused(_EXPECTED)
    return inner


def _of_certificate(pem: str) -> PublicKey:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        certificate: Certificate = x509.load_pem_x509_certificate(pem.encode("ascii"))
        key = certificate.public_key()
        text = certificate.public_bytes(Encoding.PEM).decode("ascii")
    except Exception as error:  # as in `parse`
        raise _refused(_EXPECTED) from error
    return _checked(key, text)


def _checked(key: PublicKeyTypes, certificate: str | None = None) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    kind: Literal["rsa", "ed25519"]
    if isinstance(key, RSAPublicKey):
        exponent = key.public_numbers().e
        if not RSA_BITS[0] <= key.key_size <= RSA_BITS[1]:
            raise _refused(f"the RSA key has {key.key_size} bits, expected {RSA_BITS[0]} to {RSA_BITS[1]}")
        if not RSA_EXPONENT[0] <= exponent <= RSA_EXPONENT[1]:
            raise _refused(f"the RSA key's exponent is outside of {RSA_EXPONENT[0]} to {RSA_EXPONENT[1]}")
        kind, size = "rsa", (key.key_size + 7) // 8
    elif isinstance(key, Ed25519PublicKey):
        kind, size = "ed25519", 64
    else:
        raise _refused(f"expected an RSA or Ed25519 key, got {type(key).__name__.removesuffix('PublicKey')}")
    form = PublicFormat.SubjectPublicKeyInfo
    pem = key.public_bytes(Encoding.PEM, form).decode("ascii")
    return PublicKey(kind, size, pem, fingerprint(key.public_bytes(Encoding.DER, form)), certificate)


def _refused(reason: str) -> BadRequest:
    return BadRequest(f"the key cannot be used: {reason}", path="args.pub_key", rule="key")
