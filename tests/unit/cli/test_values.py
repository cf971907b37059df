"""Text forms of values on the command line."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from sysadmd.cli.call import parse_args
from sysadmd.cli.serve import overrides_of
from sysadmd.cli.values import host_port, resume_token, seconds, site_path


@pytest.mark.parametrize("text,value", [("90", 90), ("1.5", 1.5), ("1h10m", 4200), ("500ms", 0.5), (" 2s ", 2)])
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "0", "-1", "inf", "nan", "1x", "h", "1e3", "\u0661"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no duration"):
        seconds(text)


@pytest.mark.parametrize(
    "text,value",
    [
        ("127.0.0.1:12150", ("127.0.0.1", 12150)),
        ("[::1]:0", ("::1", 0)),
        (":12150", ("*", 12150)),
        ("*:1", ("*", 1)),
        ("nas.example:65535", ("nas.example", 65535)),
    ],
)
def test_listen_addresses(text: str, value: tuple[str, int]) -> None:
    assert host_port(text) == value


@pytest.mark.parametrize("text", ["", "nas", "nas:", "nas:65536", "nas:-1", "::1:12150", "nas:\u0663"])
def test_what_is_no_listen_address_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no HOST:PORT"):
        host_port(text)


def test_resume_tokens() -> None:
    assert resume_token("9f86d081:4711") == ("9f86d081", 4711)
    for text in ("", "4711", ":1", "e:", "e:x", "e:-1"):
        with pytest.raises(click.BadParameter, match="no EPOCH:SEQ"):
            resume_token(text)


def test_flags_of_serve_become_configuration_keys() -> None:
    assert overrides_of(None, None, None, False) == {}
    assert overrides_of(Path("/s"), ("127.0.0.1", 0), ("::1", 1), True) == {
        "state_dir": "/s",
        "listen.host": "127.0.0.1",
        "listen.port": 0,
        "rest.host": "::1",
        "rest.port": 1,
        "listen.tls": False,
        "rest.tls": False,
    }


@pytest.mark.parametrize("text,value", [("", {}), (" \n", {}), ("{}", {}), ("[1]", [1]), ('"x"', "x"), ("null", None)])
def test_arguments_of_a_call(text: str, value: object) -> None:
    assert parse_args(text) == value


@pytest.mark.parametrize("text", ["{", "{x:1}", "NaN", "[" * 100_000, '"\ud800"'])
def test_what_is_no_json_is_wrong_usage(text: str) -> None:
    with pytest.raises(click.UsageError, match="ARGS_JSON is no JSON"):
        parse_args(text)


def test_a_place_is_a_site_and_a_path() -> None:
    assert site_path("1:/a:b") == (1, "/a:b")
    assert site_path("0:x y") == (0, "x y")


@pytest.mark.parametrize("text", ["", "1", "1:", ":/a", "x:/a", "-1:/a", "1234567890:/a", "\u0661:/a"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        site_path(text)
