"""Which Origin may open a WebSocket."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.datastructures import Headers

from sysadmd.listen.websocket import WebSocketListener, _parameters

LISTED = "https://console.example.net"


def allowed(**headers: Any) -> bool:
    """Whether a request with these headers is; a list stands for repeated headers."""
    found = Headers()
    for name, values in {"Host": "nas.example.net:12150", **headers}.items():
        for value in values if isinstance(values, list) else [values]:
            found[name] = value
    engine: Any = None
    listener = WebSocketListener(engine, kind="tcp", origins=[LISTED])
    return listener.allows(found.get_all("Origin"), found.get_all("Host"), cookie="Cookie" in found)


@pytest.mark.parametrize(
    "origin",
    [LISTED, "https://nas.example.net:12150", "https://NAS.example.NET:12150", "sysadm-client", "sysadm-server"],
)
def test_the_same_host_a_listed_origin_and_the_original_programs_are_allowed(origin: str) -> None:
    assert allowed(Origin=origin)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.org",
        "https://nas.example.net",
        "https://nas.example.net:12151",
        "https://nas.example.net:12150.evil.example.org",
        "https://evil.example.org@nas.example.net:1",
        "null",
        "",
        "nas.example.net:12150",
        "http://[",
        "sysadm-client.example.org",
    ],
)
def test_any_other_origin_is_not(origin: str) -> None:
    assert not allowed(Origin=origin)


def test_no_origin_is_no_browser() -> None:
    assert allowed()


def test_no_origin_with_a_cookie_is_refused() -> None:
    assert not allowed(Cookie="session=1")


def test_several_origins_are_refused() -> None:
    assert not allowed(Origin=[LISTED, LISTED])


@pytest.mark.parametrize("host", ["", [], ["nas.example.net:12150", "nas.example.net:12150"]])
def test_an_opaque_origin_equals_no_host(host: Any) -> None:
    assert not allowed(Origin="null", Host=host)


@pytest.mark.parametrize(
    "path,names",
    [
        ("/", set()),
        ("/?", set()),
        ("/?Token=x", {"token"}),
        ("/?a=1&%74oken=x", {"a", "token"}),
        ("/?password", {"password"}),
        ("//[?token=x", {"token"}),
    ],
)
def test_parameters_are_found_however_they_are_written(path: str, names: set[str]) -> None:
    assert _parameters(path) == names
