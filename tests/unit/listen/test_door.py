"""Who may come in over HTTP at all."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request

from sysadmd.errors import Forbidden
from sysadmd.listen.door import Door, peer_of

NOTHING: Any = None


def request(query: str = "", client: tuple[str, int] | None = ("192.0.2.1", 1), **headers: str) -> Request:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": query.encode(), "headers": named}
    return Request({**scope, "client": client})


def test_a_page_of_another_site_is_refused() -> None:
    door = Door(NOTHING, NOTHING, NOTHING)
    with pytest.raises(Forbidden, match="origin"):
        door.refuse_pages(request(origin="https://evil.example", host="here.example"))
    with pytest.raises(Forbidden, match="other sites"):
        door.refuse_pages(request(sec_fetch_site="cross-site", host="here.example"))


def test_a_listed_page_is_let_in() -> None:
    door = Door(NOTHING, NOTHING, NOTHING, origins=["https://console.example"])
    door.refuse_foreign(request(origin="https://console.example", host="here.example"))


def test_a_secret_in_the_url_is_refused_where_it_is_asked_for() -> None:
    door = Door(NOTHING, NOTHING, NOTHING)
    door.refuse_pages(request("token=abc"))
    with pytest.raises(Forbidden, match="URL"):
        door.refuse_foreign(request("token=abc"))


def test_a_client_without_an_address_is_unknown() -> None:
    assert peer_of(request(client=None)).address == "unknown"
    assert peer_of(request()).address == "192.0.2.1"
