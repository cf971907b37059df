"""The configuration: what is accepted, and the one line that says why something is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd import config
from sysadmd.config import Config, document, load
from sysadmd.errors import ConfigError
from sysadmd.limits import Limits

SCHEMA: dict[str, Any] = json.loads((config.schemas_root() / "config.json").read_text())


def written(directory: Path, text: str) -> Path:
    path = directory / "sysadmd.toml"
    path.write_text(text)
    return path


def refusal(directory: Path, text: str) -> str:
    """The text of the refusal, without the directory."""
    with pytest.raises(ConfigError) as caught:
        load(written(directory, text))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{directory}/sysadmd.toml: ")
    return message.removeprefix(f"{directory}/")


# Defaults


def test_without_a_file_every_key_has_its_default() -> None:
    loaded = load()
    assert (loaded.listen.host, loaded.listen.port, loaded.listen.tls) == ("*", 12150, True)
    assert (loaded.rest.host, loaded.rest.port, loaded.rest.enabled) == ("*", 12151, True)
    assert loaded.classic == "auto"
    assert loaded.limits == Limits()
    assert dict(loaded.lanes) == {"no_queue": None, "pkg_queue": 1, "iocage_queue": 1}


def test_an_empty_file_is_the_same_as_none(tmp_path: Path) -> None:
    assert load(written(tmp_path, "")) == load()


def test_the_node_is_the_host_name_up_to_its_first_dot(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((real[0], "web1.example.org", *real[2:])))
    assert load().node == "web1"


def test_the_rest_listener_follows_the_main_one() -> None:
    loaded = load(None, {"listen.host": "127.0.0.1", "listen.tls": False})
    assert (loaded.rest.host, loaded.rest.tls) == ("127.0.0.1", False)


def test_the_documented_defaults_are_those_of_the_objects() -> None:
    shipped = dict(config._flat_config(load(None, {"state_dir": "/s", "node": "n"})))
    for key, node in leaves(SCHEMA):
        if "default" not in node:
            continue
        expected = shipped[key]
        if key == "lanes":
            expected = {name: count or "parallel" for name, count in expected.items()}
        if isinstance(expected, tuple):
            expected = [str(item) for item in expected]
        assert node["default"] == expected, key


def test_the_schema_describes_every_key_of_the_objects() -> None:
    assert {key for key, _ in leaves(SCHEMA)} == {key for key, _ in config._flat_config(load())}


def test_every_key_is_described() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for key, node in leaves(SCHEMA):
        assert len(node["description"]) > 15, key


def leaves(node: dict[str, Any], prefix: str = "") -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for name, below in node["properties"].items():
        if "properties" in below:
            found += leaves(below, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", below))
    return found


# Directories


def test_the_state_directory_is_named_by_the_environment() -> None:
    assert config.default_state_dir({"SYSADMD_STATE_DIR": "/srv/state"}) == Path("/srv/state")


def test_a_relative_state_directory_of_the_environment_is_made_absolute() -> None:
    assert config.default_state_dir({"SYSADMD_STATE_DIR": "state"}) == Path.cwd() / "state"


@pytest.mark.parametrize("platform, expected", [("linux", "/var/lib/sysadmd"), ("freebsd14", "/var/db/sysadmd")])
def test_root_has_the_state_directory_of_its_system(
    monkeypatch: pytest.MonkeyPatch, platform: str, expected: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "platform", platform)
    assert config.default_state_dir({}) == Path(expected)


@pytest.mark.parametrize(
    "environ, expected",
    [
        ({"XDG_STATE_HOME": "/x"}, "/x/sysadmd"),
        ({"HOME": "/home/u"}, "/home/u/.local/state/sysadmd"),
        ({"HOME": "/home/u", "XDG_STATE_HOME": "relative"}, "/home/u/.local/state/sysadmd"),
    ],
)
def test_others_have_the_xdg_state_directory(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], expected: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert config.default_state_dir(environ) == Path(expected)


@pytest.mark.parametrize(
    "environ, expected",
    [
        ({"SYSADMD_BRIDGE_STATE_DIR": "/srv/bridge", "SYSADMD_STATE_DIR": "/srv/state"}, "/srv/bridge"),
        ({"SYSADMD_STATE_DIR": "/srv/state", "XDG_STATE_HOME": "/x"}, "/x/sysadmd-bridge"),
        ({"HOME": "/home/u"}, "/home/u/.local/state/sysadmd-bridge"),
    ],
)
def test_a_bridge_has_a_directory_of_its_own(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], expected: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert config.default_bridge_dir(environ) == Path(expected)


def test_a_directory_of_the_caller_gives_way_to_the_file_and_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "sysadmd.toml"
    file.write_text("")
    assert config.load(file, state_dir=Path("/srv/bridge")).state_dir == Path("/srv/bridge")
    assert config.load(file, {"state_dir": "/srv/x"}, state_dir=Path("/srv/bridge")).state_dir == Path("/srv/x")
    file.write_text('state_dir = "/srv/y"')
    assert config.load(file, state_dir=Path("/srv/bridge")).state_dir == Path("/srv/y")


def test_the_socket_of_roots_default_directory_is_in_the_run_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert config.runtime_socket(Path("/var/lib/sysadmd")) == Path("/run/sysadmd/sysadmd.sock")
    monkeypatch.setattr(sys, "platform", "freebsd14")
    assert config.runtime_socket(Path("/var/db/sysadmd")) == Path("/var/run/sysadmd/sysadmd.sock")


def test_the_socket_of_another_directory_is_inside_it() -> None:
    assert config.runtime_socket(Path("/srv/s")) == Path("/srv/s/sysadmd.sock")
    assert load(None, {"state_dir": "/srv/s"}).socket.path == Path("/srv/s/sysadmd.sock")


# Values


def test_relative_paths_belong_to_the_directory_of_the_file(tmp_path: Path) -> None:
    text = 'state_dir = "state"\n[listen]\ncertificate = "tls/c.pem"\nkey = "/k.pem"\n[lifepreserver]\nlogs = ["a.log"]'
    loaded = load(written(tmp_path, text))
    assert loaded.state_dir == tmp_path / "state"
    assert (loaded.listen.certificate, loaded.listen.key) == (tmp_path / "tls/c.pem", Path("/k.pem"))
    assert loaded.lifepreserver.logs == (tmp_path / "a.log",)


def test_durations_and_sizes_have_text_forms(tmp_path: Path) -> None:
    text = '[limits]\ntoken_idle = "1h10m"\nqueue_bytes = "8 MiB"\ndrain = 3\n[dispatcher.rlimits]\nas = "2 GiB"'
    loaded = load(written(tmp_path, text))
    assert loaded.limits == replace(Limits(), token_idle=4200.0, queue_bytes=8 * 1024**2, drain=3.0)
    assert loaded.dispatcher.rlimits == {"as": 2 * 1024**3}


def test_lanes_are_added_to_the_shipped_ones(tmp_path: Path) -> None:
    loaded = load(written(tmp_path, '[lanes]\nbuild = 3\nwide = "parallel"\npkg_queue = 2'))
    assert dict(loaded.lanes) == {"no_queue": None, "pkg_queue": 2, "iocage_queue": 1, "build": 3, "wide": None}


@pytest.mark.parametrize(
    "text, seconds",
    [("90s", 90), ("1h10m", 4200), ("1h 10m", 4200), ("250ms", 0.25), ("1.5 h", 5400), ("2d", 172800), ("1m30s", 90)],
)
def test_duration(text: str, seconds: float) -> None:
    assert document.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "1y", "-1s", "1h-10m", "1 h 10", "1e3s", "1h10m ago", "s5", "\u0661s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        document.duration(text)


@pytest.mark.parametrize(
    "text, count",
    [("0 B", 0), ("1kB", 1000), ("64 MiB", 64 * 1024**2), ("1.5GB", 1_500_000_000), ("2TiB", 2 << 40)],
)
def test_size(text: str, count: int) -> None:
    assert document.size(text) == count


@pytest.mark.parametrize("text", ["", "5", "5 mb", "MiB", "-1 MiB", "1 MiB 2 KiB", "1e3 B", "1  MiB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        document.size(text)


@given(st.text(max_size=20) | st.from_regex(r"[0-9. hmsd]{1,20}", fullmatch=True))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    refused: ValueError | None = None
    try:
        assert document.duration(text) >= 0
    except ValueError as error:
        refused = error
    assert refused is None or "must be a duration" in str(refused)


# Refusals: file, key, value, rule


@pytest.mark.parametrize(
    "text, expected",
    [
        ("[listne]\nport = 1", "listne: unknown key, did you mean listen?"),
        ("[limits]\ndrian = 1", "limits.drian: unknown key, did you mean limits.drain?"),
        ("[zzz]", "zzz: unknown key"),
        ('"a\\nb" = 1', r"'a\nb': unknown key"),
        ('[listen]\nport = "x"', "listen.port = 'x': must be of type integer"),
        ("[listen]\nport = true", "listen.port = True: must be of type integer"),
        ("[listen]\nport = 65536", "listen.port = 65536: must be at most 65535"),
        ("[listen]\nport = -1", "listen.port = -1: must be at least 0"),
        ("listen = 3", "listen = 3: must be of type table"),
        ("origins = 3", "origins = 3: must be of type array"),
        ('classic = "no"', "classic = 'no': must be one of auto, always, never"),
        ('node = "a b"', "node = 'a b': must be letters, digits, `_`, `.` and `-`, at most 255 of them"),
        (
            'origins = ["https://a.b", "x"]',
            "origins[1] = 'x': must be an origin such as https://admin.example:8443, without a path",
        ),
        ("[limits]\nidle_timeout = nan", "limits.idle_timeout = nan: must be a finite number"),
        ("[limits]\nidle_timeout = inf", "limits.idle_timeout = inf: must be a finite number"),
        ("[lanes]\nx = 0", 'lanes.x = 0: must be a count of 1 to 10000, or "parallel"'),
        ('[lanes]\nx = "many"', "lanes.x = 'many': must be a count of 1 to 10000, or \"parallel\""),
        (
            "[lanes]\nX = 1",
            "lanes = 'X': must be the name of a lane: a small letter, then up to 63 of a-z, 0-9 and _",
        ),
        ('state_dir = ""', "state_dir = '': must be a path: not empty, without NUL"),
        ('state_dir = "a\\u0000b"', r"state_dir = 'a\x00b': must be a path: not empty, without NUL"),
        ("[dispatcher.rlimits]\nfsize = 1", "dispatcher.rlimits = 'fsize': must be one of as, core, cpu, data, "),
        ('[dispatcher]\nenvironment = ["A=B"]', "dispatcher.environment[0] = 'A=B': must be the name of an "),
        ('[listen]\nhost = ""', "listen.host = '': its length must be at least 1"),
        ("[listen]\ntls = false", "listen.tls = False: needs a loopback address, and listen.host is '*'"),
        (
            '[listen]\nhost = "127.0.0.1"\n[rest]\nhost = "::"\ntls = false',
            "rest.tls = False: needs a loopback address, and rest.host is '::'",
        ),
        ("[rest]\nport = 12150", "rest.port = 12150: is listen.port already"),
        ('[listen]\ncertificate = "/c"', "listen.key: is needed together with listen.certificate"),
        ('[listen]\nkey = "/k"', "listen.certificate: is needed together with listen.key"),
        (
            '[rest]\ntrusted_proxies = ["10.0.0.1/8"]',
            "rest.trusted_proxies = '10.0.0.1/8': must be an address or a network such as 10.0.0.0/8, without host",
        ),
        ('[limits]\ntoken_idle = "13h"', "limits.token_idle = 46800.0: must be at most limits.token_absolute"),
        (
            '[limits]\nframe_unauthenticated = "9 KiB"\nframe_authenticated = "8 KiB"',
            "limits.frame_unauthenticated = 9216: must be at most limits.frame_authenticated",
        ),
        ('[limits]\nframe_authenticated = "2 Mb"', "limits.frame_authenticated = '2 Mb': must be a size: bytes, "),
        ('[limits]\ndrain = "soon"', "limits.drain = 'soon': must be a duration: seconds, or text such as"),
    ],
)
def test_refusal(tmp_path: Path, text: str, expected: str) -> None:
    assert refusal(tmp_path, text).startswith(f"sysadmd.toml: {expected}")


def test_bad_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    assert refusal(tmp_path, "a = 1\nb = \nc = 3") == "sysadmd.toml: bad TOML at line 2, column 5: Invalid value"
    assert refusal(tmp_path, "a = 1\nb =").startswith("sysadmd.toml: bad TOML at line 2")
    assert "line 2" in refusal(tmp_path, "a = 1\na = 2")


def test_a_file_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "sysadmd.toml"
    path.write_bytes(b"# fine\nnode = '\xff'")
    with pytest.raises(ConfigError, match="must be UTF-8, line 2 is not"):
        load(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml: cannot be read: No such file or directory"):
        load(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_one_byte_above_the_largest_file_is_refused(tmp_path: Path) -> None:
    fits = "#" * document.MAX_FILE
    assert load(written(tmp_path, fits)) == load()
    assert refusal(tmp_path, fits + "#") == "sysadmd.toml: must be at most 1048576 bytes"


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    assert "nested too deeply" in refusal(tmp_path, f"origins = {'[' * 20000}")


def test_a_long_value_is_cut_in_the_refusal(tmp_path: Path) -> None:
    assert len(refusal(tmp_path, f'classic = "{"x" * 5000}"')) < 200


def test_a_socket_path_one_byte_too_long_is_refused() -> None:
    longest = "/" + "x" * 102
    assert load(None, {"socket.path": longest}).socket.path == Path(longest)
    with pytest.raises(ConfigError, match="must be at most 103 bytes"):
        load(None, {"socket.path": longest + "x"})


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_value_of_a_key_is_accepted_or_refused(value: Any) -> None:
    source = document.Source("f", Path("/"))
    for key in ("classic", "origins", "limits", "lanes", "state_dir", value if isinstance(value, str) else "x"):
        line = ""
        try:
            document.check(source.coerced({key: value}, SCHEMA), SCHEMA, source)
        except ConfigError as error:
            line = str(error)
        assert len(line.splitlines()) <= 1


# Limits


@pytest.mark.parametrize("name", [one.name for one in fields(Limits)])
def test_one_beyond_each_range_of_a_limit_is_refused(tmp_path: Path, name: str) -> None:
    node = SCHEMA["properties"]["limits"]["properties"][name]
    for bound, beyond, rule in (("minimum", -1, "at least"), ("maximum", 1, "at most")):
        text = f"[limits]\n{name} = {node[bound] + beyond}"
        assert f"must be {rule} {node[bound]}" in refusal(tmp_path, text)


# The command line


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "[listen]\nport = 1\nhost = '127.0.0.1'")
    loaded = load(path, {"listen.port": 2, "rest": {"port": 3}, "limits": {"drain": "1m"}})
    assert (loaded.listen.port, loaded.listen.host, loaded.rest.port, loaded.limits.drain) == (2, "127.0.0.1", 3, 60.0)


def test_relative_paths_of_the_command_line_belong_to_the_working_directory() -> None:
    assert load(None, {"state_dir": "here"}).state_dir == Path.cwd() / "here"
    assert load(None, {"state_dir": Path("here")}).state_dir == Path.cwd() / "here"


@pytest.mark.parametrize(
    "overrides, expected",
    [
        ({"listen.prot": 1}, "command line: listen.prot: unknown key, did you mean listen.port?"),
        ({"listen.port": 65536}, "command line: listen.port = 65536: must be a port, 0 to 65535"),
        ({"listen.tls": False}, "command line: listen.tls = False: needs a loopback address"),
    ],
)
def test_a_bad_override_is_refused(overrides: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, overrides)
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_no_tls_is_accepted_on_loopback(host: str) -> None:
    assert load(None, {"listen.host": host, "listen.tls": False}).listen.tls is False


# Changes


def test_the_difference_of_two_configurations_names_keys_and_whether_they_apply_at_once(tmp_path: Path) -> None:
    new = load(written(tmp_path, '[limits]\ndrain = 3\n[listen]\nport = 1\n[log]\nlevel = "debug"\n[lanes]\nb = 1'))
    assert [(c.key, c.reloadable) for c in config.diff(load(), new)] == [
        ("listen.port", False),
        ("lanes", True),
        ("log.level", True),
        ("limits.drain", True),
    ]


def test_a_reload_takes_what_applies_at_once_and_keeps_the_rest(tmp_path: Path) -> None:
    old, new = load(), load(written(tmp_path, '[limits]\ndrain = 3\n[listen]\nport = 1\n[log]\nlevel = "debug"'))
    result = config.reloaded(old, new)
    assert (result.limits.drain, result.log.level, result.listen) == (3.0, "debug", old.listen)
    assert config.reloaded(old, old) == old


def test_every_reloadable_key_exists() -> None:
    keys = {key for key, _ in config._flat_config(load())}
    for pattern in config.RELOADABLE:
        table = pattern.removesuffix("*")
        assert any(key == pattern or (pattern.endswith(".*") and key.startswith(table)) for key in keys), pattern


def test_configurations_are_frozen() -> None:
    loaded: Config = load()
    for part in (loaded, *(getattr(loaded, one.name) for one in fields(loaded))):
        if is_dataclass(part):
            with pytest.raises(FrozenInstanceError):
                setattr(part, fields(part)[0].name, None)


# Cost


def test_importing_it_needs_none_of_what_is_slow() -> None:
    slow = ("jsonschema", "tomllib", "json", "msgspec", "cryptography", "asyncio", "ssl")
    code = f"import sys, sysadmd.config as c; c.load(); print([m for m in {slow!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


def test_bridges_are_named_and_have_a_url(tmp_path: Path) -> None:
    loaded = load(
        written(tmp_path, '[bridges.home]\nurl = "relay.example"\nca = "relay.crt"\n[bridge]\nallow_classic = false')
    )
    assert loaded.bridges["home"] == config.BridgeLink("relay.example", tmp_path / "relay.crt")
    assert not loaded.bridge.allow_classic


@pytest.mark.parametrize(
    "text, rule",
    [
        ("[bridges.home]", "url"),
        ('[bridges.home]\nurl = "ws://relay.example"', "bridges.home.url"),
        ('[bridges.home]\nurl = "wss://user@relay.example"', "bridges.home.url"),
        ('[bridges.home]\nurl = "relay.example?x"', "bridges.home.url"),
        ('[bridges.home]\nurl = "relay.example:65536"', "bridges.home.url"),
        ('[bridges.home]\nurl = "relay.example:0"', "bridges.home.url"),
        ('[bridges.home]\nurl = "[1:2]"', "bridges.home.url"),
        ('[bridges."a b"]\nurl = "relay.example"', "must be the name of a bridge"),
        ('[bridges.home]\nurl = "relay.example"\nca = "x"\ninsecure = true', "contradicts bridges.home.ca"),
        ("[relay]\ntls = false", "relay.tls"),
        ('[relay]\ncertificate = "x"', "relay.key"),
        ('[relay]\ntrusted_proxies = ["x"]', "relay.trusted_proxies"),
    ],
)
def test_bad_bridge_tables_are_refused(tmp_path: Path, text: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule.replace(".", r"\.")):
        load(written(tmp_path, text))


def test_sites_are_numbered(tmp_path: Path) -> None:
    text = """
    [sites.12]
    root = "/srv"
    [sites.0]
    ssh = "backup@[fe80::1]:2222"
    root = "data"
    key = "id"
    host_key = "ssh-ed25519 AAAA"
    [sites.3]
    dummy = true
    """
    loaded = load(written(tmp_path, text))
    assert loaded.sites == {
        12: config.SiteConfig(root="/srv"),
        0: config.SiteConfig("data", "backup@[fe80::1]:2222", tmp_path / "id", "ssh-ed25519 AAAA"),
        3: config.SiteConfig(dummy=True),
    }


@pytest.mark.parametrize(
    "text, rule",
    [
        ("[sites.x]\nroot = '/srv'", "must be the number of a site"),
        ("[sites.1000000000]\nroot = '/srv'", "must be the number of a site"),
        ("[sites.01]\nroot = '/srv'", "must be the number of a site"),
        ("[sites.1]", "must have one of root, ssh and dummy"),
        ("[sites.1]\nroot = 'srv'", "must be an absolute path"),
        ("[sites.1]\nroot = '/srv'\ndummy = true", "must have one of root, ssh and dummy"),
        ("[sites.1]\nroot = '/srv'\nkey = 'id'", "belongs to a site with ssh"),
        ("[sites.1]\nssh = 'a@b'\nkey = 'id'\nhost_key = 'ssh-rsa A'\ndummy = true", "belongs to a site with ssh"),
        ("[sites.1]\nssh = 'a@b'", "sites.1.key: is needed"),
        ("[sites.1]\nssh = 'a@b'\nkey = 'id'", "one of host_key and known_hosts"),
        ("[sites.1]\nssh = 'a@b'\nkey = 'id'\nhost_key = 'ssh-rsa A'\nknown_hosts = 'k'", "one of host_key and known"),
        ("[sites.1]\nssh = 'a@b'\nkey = 'id'\nhost_key = 'A'", "must be a public key"),
        ("[sites.1]\nssh = 'b'\nkey = 'id'\nknown_hosts = 'k'", "must be USER@HOST"),
        ("[sites.1]\nssh = 'a:pw@b'\nkey = 'id'\nknown_hosts = 'k'", "must be USER@HOST"),
        ("[sites.1]\nssh = 'a@b:0'\nkey = 'id'\nknown_hosts = 'k'", "must be USER@HOST"),
        ("[sites.1]\nssh = 'a@[::1]:65536'\nkey = 'id'\nknown_hosts = 'k'", "must be USER@HOST"),
    ],
)
def test_bad_sites_are_refused(tmp_path: Path, text: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule.replace(".", r"\.")):
        load(written(tmp_path, text))
