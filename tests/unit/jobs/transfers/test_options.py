"""Options are known and bounded, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from sysadmd.errors import BadRequest
from sysadmd.jobs.transfers.options import Options, options


@pytest.mark.parametrize("given", [None, {}])
def test_no_options_are_the_defaults(given: dict[str, Any] | None) -> None:
    assert options(given) == Options()


def test_known_options_are_read() -> None:
    assert options({"checksum": "sha256", "overwrite": False}) == Options(checksum="sha256", overwrite=False)


@pytest.mark.parametrize(
    "given",
    [
        {"checksum": "md5"},
        {"overwrite": "yes"},
        {"proxy": "/etc/shadow"},
        {"dummy_files": -1},
        {"dummy_files": 100_001},
        {"dummy_size": (1 << 50) + 1},
        {"dummy_seconds": 86_401},
    ],
)
def test_a_bad_option_is_refused_with_the_known_ones(given: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=r"extra_opts: .*known are checksum, overwrite"):
        options(given)
