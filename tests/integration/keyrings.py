"""Keys that the openssl program made, and proofs with them, against a server of the test's own."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sysadmd.keys.signing import DOMAIN, parse
from tests.integration.apps import LiveApp
from tests.integration.servers import Peer
from tests.unit.keys.openssl import make_key, public_key, sign_classic, sign_ed25519, sign_pss


@dataclass(frozen=True)
class Keypair:
    """A private key in a file."""

    file: Path

    @classmethod
    def make(cls, directory: Path, kind: str = "rsa-2048", name: str = "mine") -> Keypair:
        return cls(make_key(directory, kind, name))

    @property
    def pem(self) -> str:
        return public_key(self.file)

    @property
    def registered(self) -> str:
        """As the originals send it: base64 of the PEM text."""
        return base64.b64encode(self.pem.encode()).decode()

    @property
    def fingerprint(self) -> str:
        return parse(self.pem).fingerprint

    @property
    def checksum(self) -> str:
        return parse(self.pem).checksum

    def classic(self, challenge: str) -> dict[str, str]:
        return {"encrypted_string": base64.b64encode(sign_classic(self.file, challenge)).decode()}

    def modern(self, challenge: str, binding: str = "") -> dict[str, str]:
        text = DOMAIN + challenge.encode() + binding.encode()
        rsa = len(self.pem) > 200
        signature = sign_pss(self.file, text) if rsa else sign_ed25519(self.file, text)
        algorithm = "rsa-pss-sha256" if rsa else "ed25519"
        encoded = base64.b64encode(signature).decode()
        return {"key": self.fingerprint, "algorithm": algorithm, "signature": encoded}


async def register(live: LiveApp, account: str, key: Keypair, **more: str) -> None:
    """As an administrator does it."""
    async with live.connect() as admin:
        args = {"action": "register_ssl_cert", "pub_key": key.registered, "user": account, **more}
        assert await admin.call("rpc", "settings", args) == {}


async def revoke(live: LiveApp, account: str, key: Keypair) -> None:
    async with live.connect() as admin:
        args = {"action": "revoke_ssl_cert", "pub_key": key.registered, "user": account}
        assert await admin.call("rpc", "settings", args) == {}


async def challenge_of(peer: Peer) -> str:
    return str((await peer.call("rpc", "auth_ssl", {}))["test_string"])


async def answer(peer: Peer, proof: dict[str, str]) -> int:
    """200, or the code of the refusal."""
    return code_of(await peer.request("rpc", "auth_ssl", proof))


async def log_in(peer: Peer, key: Keypair) -> str:
    """The token for a modern proof."""
    token, _ = await peer.call("rpc", "auth_ssl", key.modern(await challenge_of(peer)))
    return str(token)


def code_of(reply: dict[str, Any]) -> int:
    return int(reply["args"]["code"]) if reply["name"] == "error" else 200
