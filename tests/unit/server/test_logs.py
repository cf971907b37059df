"""The server's log is for whoever reads it: JSON in a pipe, plain lines on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from sysadmd.config import Log
from sysadmd.server.logs import address_text, configure

LISTEN = [("0.0.0.0", 12150), ("::", 12150, 0, 0)]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def logged(options: Log, capsys: pytest.CaptureFixture[str]) -> str:
    configure(options)
    structlog.get_logger().info("ready", listen=LISTEN, socket=None)
    return capsys.readouterr().err


def test_a_pipe_gets_one_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    line = json.loads(logged(Log(), capsys))
    assert (line["event"], line["level"]) == ("ready", "info")
    assert line["listen"] == [["0.0.0.0", 12150], ["::", 12150, 0, 0]]
    assert line["timestamp"].endswith("Z")


def test_people_read_addresses_as_they_type_them(capsys: pytest.CaptureFixture[str]) -> None:
    line = logged(Log(format="text"), capsys)
    assert "listen=0.0.0.0:12150, [::]:12150" in line.replace("'", "")
    assert "(" not in line


def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert logged(Log(level="warning"), capsys) == ""


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_traceback_shows_no_local_variables(
    form: Literal["json", "text"], capsys: pytest.CaptureFixture[str]
) -> None:
    def check(password: str) -> None:
        raise ValueError(f"of {len(password)} characters")

    configure(Log(format=form))
    try:
        check("correct" + " horse")
    except ValueError as error:
        structlog.get_logger().error("call failed", exc_info=error)
    told = capsys.readouterr().err
    assert "of 13 characters" in told
    assert "test_logs.py" in told
    assert "correct horse" not in told


@pytest.mark.parametrize(
    "address,text",
    [
        (("192.0.2.1", 1), "192.0.2.1:1"),
        (("2001:db8::1", 1, 0, 0), "[2001:db8::1]:1"),
        (("localhost", 1), "localhost:1"),
    ],
)
def test_an_address_is_written_with_its_port(address: tuple[object, ...], text: str) -> None:
    assert address_text(address) == text
