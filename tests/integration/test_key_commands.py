"""`sysadmd key` and logging in by `--key` and `--cert`, as commands against a real server with TLS."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sysadmd.keys.signing import parse
from tests.integration.servers import PASSWORD, RunningServer, running_server
from tests.integration.test_cli_server import Done, sysadmd
from tests.unit.keys.openssl import make_certificate, make_key, openssl, public_key

ACCOUNTS = {"admin": ("admin",), "oper": ("operator",)}


def public_file(private: Path) -> Path:
    file = private.with_suffix(".pub")
    file.write_text(public_key(private))
    return file


async def call(server: RunningServer, method: str, *options: str | Path, **environ: str) -> Done:
    """A command of somebody elsewhere: over TLS, with nothing but what is said here."""
    server_options = ("--server", server.url.removesuffix("/"), "--ca", str(server.state_dir / "server.crt"))
    return await sysadmd(server, "call", method, *server_options, *map(str, options), **environ)


@pytest.mark.parametrize("kind", ["rsa-2048", "ed25519"])
async def test_an_imported_key_logs_in_until_it_is_revoked(tmp_path: Path, kind: str) -> None:
    private = make_key(tmp_path, kind)
    async with running_server(tmp_path, tls=True, accounts=ACCOUNTS) as server:
        assert (await call(server, "rpc/query", "--key", private)).code == 3
        done = await sysadmd(server, "key", "import", "oper", str(public_file(private)), "--nick", "laptop")
        assert done.code == 0, done.err
        (row,) = (json.loads(line) for line in (await sysadmd(server, "key", "list")).out.splitlines())
        assert (row["account"], row["nickname"]) == ("oper", "laptop")

        assert (await call(server, "rpc/query", "--key", private)).code == 0
        assert (await call(server, "rpc/query", SYSADMD_KEY=str(private))).code == 0
        refused = await call(server, "rpc/accounts/list", "--key", private)
        assert (refused.code, "403" in refused.err) == (1, True)

        assert (await sysadmd(server, "key", "revoke", "oper", row["fingerprint"])).code == 0
        assert (await call(server, "rpc/query", "--key", private)).code == 3
        assert (await sysadmd(server, "key", "list")).out == ""


async def test_what_is_imported_while_the_server_is_stopped_counts_at_its_start(tmp_path: Path) -> None:
    private, other = make_key(tmp_path, "ed25519"), make_key(tmp_path, "ed25519", "other")
    async with running_server(tmp_path, tls=True, accounts=ACCOUNTS) as server:
        assert (await sysadmd(server, "key", "import", "oper", str(public_file(other)))).code == 0
        assert await server.end() == 0
        assert (await sysadmd(server, "key", "import", "oper", str(public_file(private)))).code == 0
        assert (await sysadmd(server, "key", "revoke", "oper", str(public_file(other)))).code == 0
        await server.restart()
        assert (await call(server, "rpc/query", "--key", private)).code == 0
        assert (await call(server, "rpc/query", "--key", other)).code == 3


async def test_an_imported_certificate_logs_in_by_tls(tmp_path: Path) -> None:
    private = make_key(tmp_path, "rsa-2048")
    certificate = make_certificate(private)
    async with running_server(tmp_path, tls=True, accounts=ACCOUNTS) as server:
        done = await sysadmd(server, "key", "import", "oper", str(certificate), "--tls")
        assert done.code == 0, done.err
        both = tmp_path / "both.pem"
        both.write_text(certificate.read_text() + private.read_text())
        assert (await call(server, "rpc/query", "--cert", both)).code == 0
        assert (await call(server, "rpc/accounts/list", "--cert", both)).code == 1


async def test_the_exported_key_is_the_one_of_the_server_that_answers(tmp_path: Path) -> None:
    async with running_server(tmp_path, tls=True, accounts=ACCOUNTS) as server:
        done = await sysadmd(server, "key", "export")
        assert done.out == openssl("x509", "-in", server.state_dir / "server.crt", "-pubkey", "-noout").decode()
        bridge = await sysadmd(server, "key", "export", "--bridge")
        assert parse(bridge.out).fingerprint != parse(done.out).fingerprint
        mode = (server.state_dir / "ws_bridge.key").stat().st_mode & 0o777
        assert mode == 0o600


async def test_no_key_is_in_the_log(tmp_path: Path) -> None:
    private = make_key(tmp_path, "ed25519")
    async with running_server(tmp_path, tls=True, accounts=ACCOUNTS) as server:
        assert (await sysadmd(server, "key", "import", "oper", str(public_file(private)))).code == 0
        assert (await call(server, "rpc/query", "--key", private)).code == 0
        log = server.log_file.read_text()
        assert private.read_text().splitlines()[1] not in log
        assert "signature" not in log


# Registering: both ends get to know each other


def remote(server: RunningServer) -> tuple[str, ...]:
    """The flags of somebody elsewhere who has the server's certificate."""
    return ("--server", server.url.removesuffix("/"), "--ca", str(server.state_dir / "server.crt"))


async def register(server: RunningServer, file: Path, home: Path, *options: str) -> Done:
    flags = (*remote(server), "--user", "oper", "--password-stdin", "--key-file", str(file), *options)
    return await sysadmd(server, "key", "register", *flags, stdin=f"{PASSWORD}\n", XDG_CONFIG_HOME=str(home))


async def pinned(server: RunningServer, home: Path) -> list[dict[str, str]]:
    done = await sysadmd(server, "key", "pins", XDG_CONFIG_HOME=str(home))
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


@pytest.mark.parametrize("options", [("--generate",), ("--generate", "--rsa")])
async def test_a_key_is_made_and_registered_and_the_server_is_pinned(tmp_path: Path, options: tuple[str, ...]) -> None:
    file, home = tmp_path / "mine.key", tmp_path / "home"
    async with running_server(tmp_path, tls=True, accounts=ACCOUNTS) as server:
        done = await register(server, file, home, *options, "--nick", "laptop", "--as", "nas")
        assert done.code == 0, done.err
        assert file.stat().st_mode & 0o777 == 0o600
        assert (await call(server, "rpc/query", "--key", file)).code == 0
        (row,) = (json.loads(line) for line in (await sysadmd(server, "key", "list")).out.splitlines())
        kind = "rsa" if "--rsa" in options else "ed25519"
        assert (row["account"], row["nickname"], row["kind"]) == ("oper", "laptop", kind)
        exported = await sysadmd(server, "key", "export", "--bridge")
        assert await pinned(server, home) == [{"name": "nas", "fingerprint": parse(exported.out).fingerprint}]


async def test_registering_again_uses_the_same_key(tmp_path: Path) -> None:
    file, home = tmp_path / "mine.key", tmp_path / "home"
    async with running_server(tmp_path, tls=True, accounts=ACCOUNTS) as server:
        assert (await register(server, file, home, "--generate")).code == 0
        before = file.read_bytes()
        assert (await register(server, file, home, "--generate")).code == 0
        assert file.read_bytes() == before
        assert len(await pinned(server, home)) == 1


async def test_a_server_with_another_key_is_not_registered_at_until_it_is_said(tmp_path: Path) -> None:
    file, home = make_key(tmp_path, "ed25519"), tmp_path / "home"
    async with running_server(tmp_path, tls=True, accounts=ACCOUNTS) as server:
        done = await sysadmd(server, "key", "pin", "nas", "f" * 64, XDG_CONFIG_HOME=str(home))
        assert done.code == 0, done.err
        refused = await register(server, file, home, "--as", "nas")
        assert (refused.code, f"nas is known by the key {'f' * 64}" in refused.err) == (1, True)
        assert (await sysadmd(server, "key", "list")).out == ""
        assert (await register(server, file, home, "--as", "nas", "--replace")).code == 0
        assert [row["fingerprint"] for row in await pinned(server, home)] != ["f" * 64]


async def test_a_key_is_registered_over_the_unix_socket_as_whose_it_is(tmp_path: Path) -> None:
    file, home = make_key(tmp_path, "ed25519"), tmp_path / "home"
    async with running_server(tmp_path, accounts=ACCOUNTS) as server:
        done = await sysadmd(server, "key", "register", "--key-file", str(file), XDG_CONFIG_HOME=str(home))
        if done.code == 0:
            assert len(await pinned(server, home)) == 1
        else:  # the uid that runs the test has no account of its own
            assert "there is no account" in done.err
            assert await pinned(server, home) == []
