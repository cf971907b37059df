"""The description of the pdm API agrees with what is served."""

from __future__ import annotations

import re

from sysadmd.jobs.workqueue.request import GIVEN
from sysadmd.listen.workqueue.endpoints import ENDPOINTS
from sysadmd.listen.workqueue.openapi import FIELDS, PARAMETERS, paths


def test_every_endpoint_is_described_once() -> None:
    found = paths("/x", ENDPOINTS)
    operations = [one for verbs in found.values() for one in verbs.values()]
    assert len(operations) == len(ENDPOINTS)
    assert len({one["operationId"] for one in operations}) == len(ENDPOINTS)


def test_the_variables_of_a_path_are_its_parameters() -> None:
    for path, verbs in paths("/x", ENDPOINTS).items():
        for operation in verbs.values():
            named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert named == set(re.findall(r"\{([a-z]+)\}", path))


def test_every_field_and_parameter_is_described() -> None:
    assert set(FIELDS) == set(GIVEN)
    assert {name for endpoint in ENDPOINTS for name in endpoint.parameters} == set(PARAMETERS)


def test_a_job_of_a_path_needs_no_type() -> None:
    found = paths("/x", ENDPOINTS)
    required = {
        path: verbs["post"]["requestBody"]["content"]["application/json"]["schema"]["required"]
        for path, verbs in found.items()
        if "post" in verbs and "requestBody" in verbs["post"]
    }
    assert "type" in required["/x/jobs"]
    assert "type" not in required["/x/copy"]
    assert "dst_siteid" in required["/x/copy"]
    assert "dst_siteid" not in required["/x/rename"]
