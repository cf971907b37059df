"""A client of core4's API for tests: HTTP and the event socket of a live application."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlencode

import aiohttp
from websockets.asyncio.client import ClientConnection, connect

from tests.integration.apps import LiveApp
from tests.integration.servers import PASSWORD

HISTORY = "api://core4.api.v1.request.queue.history.*"


class Api:
    """Paths below /core4/api/v1. Each verb gives status and body."""

    def __init__(self, live: LiveApp, token: str | None = None) -> None:
        self.live, self.token = live, token

    async def ask(self, verb: str, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> Any:
        """The answer, after its envelope was looked at."""
        sent = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        async with aiohttp.ClientSession() as http:
            url = self.live.rest_url + ("" if path.startswith("/core4") else "/core4/api/v1/") + path
            async with http.request(verb, url, headers={**sent, **(headers or {})}, **options) as answer:
                body = await answer.json()
        assert len(body["_id"]) == 24
        assert body["code"] == answer.status
        assert body["version"].startswith("sysadmd/")
        assert ("data" in body) == (answer.status == 200) != ("error" in body)
        return body

    async def get(self, path: str, **query: Any) -> Any:
        return await self.ask("GET", path, params={key: str(value) for key, value in query.items()})

    async def post(self, path: str, **body: Any) -> Any:
        return await self.ask("POST", path, json=body)

    async def put(self, path: str, **body: Any) -> Any:
        return await self.ask("PUT", path, json=body)

    async def delete(self, path: str, **query: Any) -> Any:
        return await self.ask("DELETE", path, params=query)

    async def data(self, verb: str, path: str, **options: Any) -> Any:
        """The data of a success."""
        body = await self.ask(verb, path, **options)
        assert body["code"] == 200, body
        return body["data"]


async def logged_in(live: LiveApp, name: str = "admin", password: str = PASSWORD) -> Api:
    body = await Api(live).get("login", username=name, password=password)
    assert body["code"] == 200, body
    return Api(live, body["data"]["token"])


async def user(live: LiveApp, name: str = "test", *perm: str, role: tuple[str, ...] = ("standard_user",)) -> Api:
    """A new user, logged in."""
    admin = await logged_in(live)
    given = {"realname": "Test User", "email": f"{name}@example.org", "password": PASSWORD}
    body = await admin.post("roles", name=name, role=list(role), perm=list(perm), **given)
    assert body["code"] == 200, body
    return await logged_in(live, name)


class Socket:
    """One event socket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, message: Any) -> None:
        await self.connection.send(message if isinstance(message, str) else json.dumps(message))

    async def text(self, timeout: float = 10.0) -> str:
        async with asyncio.timeout(timeout):
            return str(await self.connection.recv())

    async def receive(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(await self.text())
        return value

    async def ask(self, message: Any) -> dict[str, Any]:
        """Send and return the next answer."""
        await self.send(message)
        return await self.until(lambda one: "type" in one)

    async def interest(self, *channels: str, **more: Any) -> dict[str, Any]:
        return await self.ask({"type": "interest", "data": list(channels), **more})

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next message that is wanted; those before it are dropped."""
        while True:
            message = await self.receive()
            if wanted(message):
                return message

    async def event(self, name: str) -> dict[str, Any]:
        return await self.until(lambda one: one.get("name") == name)


@contextlib.asynccontextmanager
async def event_socket(live: LiveApp, token: str | None = None, **options: Any) -> AsyncIterator[Socket]:
    query = "" if token is None else "?" + urlencode({"token": token})
    url = live.rest_url.replace("http", "ws", 1) + "/core4/api/v1/event" + query
    async with connect(url, compression=None, max_size=None, **options) as connection:
        yield Socket(connection)
