from __future__ import annotations

from sysadmd.listen.jobs.openapi import paths
from sysadmd.schema import load_methods

METHODS = load_methods()


def test_who_may_everything_is_shown_everything() -> None:
    shown = {(verb, path) for path, item in paths("/api/v1/jobs", METHODS).items() for verb in item}
    assert shown == {
        ("get", "/api/v1/jobs"),
        ("post", "/api/v1/jobs"),
        ("get", "/api/v1/jobs/{job}"),
        ("delete", "/api/v1/jobs/{job}"),
        ("post", "/api/v1/jobs/{job}/kill"),
        ("post", "/api/v1/jobs/{job}/restart"),
        ("get", "/api/v1/jobs/{job}/output"),
    }


def test_what_needs_more_than_is_allowed_is_not_shown() -> None:
    allowed = {key: METHODS[key] for key in ("queue/list", "queue/kill")}
    assert {(verb, path) for path, item in paths("/j", allowed).items() for verb in item} == {("get", "/j")}


def test_operations_have_names_of_their_own_and_each_its_parameters() -> None:
    items = paths("/j", METHODS)
    operations = [operation for item in items.values() for operation in item.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    for path, item in items.items():
        for operation in item.values():
            places = {(one["name"], one["in"]) for one in operation["parameters"]}
            assert (("job", "path") in places) == ("{job}" in path)
            assert "401" in operation["responses"]
