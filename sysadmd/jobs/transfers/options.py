"""The options of a file job (`extra_opts` of the pdm clients): known, typed and bounded, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from sysadmd.errors import BadRequest

MIB = 1024 * 1024


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be asked for besides the paths.

    `checksum`: COPY computes it while it copies and puts it into the result. `overwrite`: whether a file that is there
    already is replaced; without it COPY does, as cp(1), and RENAME does not, as nothing would be left of it.
    `parents`: MKDIR makes the directories above as well. `recursive`: LIST goes down the tree.
    The last three shape what a dummy site pretends: so many files of so many bytes, each taking so many seconds.
    """

    checksum: Literal["sha256"] | None = None
    overwrite: bool | None = None
    parents: bool = False
    recursive: bool = True
    dummy_files: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 3
    dummy_size: Annotated[int, msgspec.Meta(ge=0, le=1 << 50)] = MIB
    dummy_seconds: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0


def options(given: Mapping[str, Any] | None) -> Options:
    """The checked options; None stands for none. Raises BadRequest with the rule that one breaks."""
    try:
        return msgspec.convert(given or {}, Options)
    except msgspec.ValidationError as error:
        known = ", ".join(Options.__struct_fields__)
        raise BadRequest(f"extra_opts: {error}; known are {known}", path="extra_opts") from None
