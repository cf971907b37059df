"""What every answer is wrapped in."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from sysadmd import __version__
from sysadmd.errors import Cancelled, Conflict, NotFound, RpcError
from sysadmd.listen.core4.envelope import failure, new_id, reply
from sysadmd.listen.core4.pager import Wanted

NOW = 1_610_618_400.123
HEAD = {"_id": "x", "version": f"sysadmd/{__version__}", "timestamp": "2021-01-14T10:00:00.123000"}


def body(response: Response) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(bytes(response.body))
    return value


def test_a_success() -> None:
    assert body(reply("x", NOW, {"a": 1})) == {**HEAD, "message": "OK", "code": 200, "data": {"a": 1}}


def test_a_page_says_where_it_is() -> None:
    text = bytes(reply("x", NOW, Wanted(1, 2).of(["a", "b", "c"])).body)
    assert json.loads(text) == {
        **HEAD,
        "message": "OK",
        "code": 200,
        "data": ["c"],
        "total_count": 3.0,
        "count": 1,
        "page": 1,
        "page_count": 2,
        "per_page": 2,
    }
    assert b'"total_count":3.0' in text


def test_a_refusal_has_an_error_and_no_data() -> None:
    answer = failure("x", NOW, NotFound("role [x] not found"))
    assert answer.status_code == 404
    assert body(answer) == {**HEAD, "message": "Not Found", "code": 404, "error": "role [x] not found"}


def test_a_conflict_is_a_bad_request() -> None:
    answer = failure("x", NOW, Conflict("name or email exists"))
    assert (answer.status_code, body(answer)["code"], body(answer)["message"]) == (400, 400, "Bad Request")


def test_a_code_without_a_phrase_is_answered_too() -> None:
    assert body(failure("x", NOW, Cancelled()))["code"] == 499


def test_a_refusal_names_the_path() -> None:
    error = RpcError("is missing", path="name", rule="required")
    assert body(failure("x", NOW, error))["error"] == "name: is missing"


def test_ids_sort_by_time() -> None:
    assert len(new_id(NOW)) == 24
    assert new_id(NOW) < new_id(NOW + 1)
