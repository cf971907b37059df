"""`rpc/bridges`: the bridges that this server dials."""

from __future__ import annotations

from typing import Any

from sysadmd.api.services import Services
from sysadmd.rpc.call import Call, method


@method("rpc/bridges/list")
def listing(call: Call, services: Services) -> dict[str, Any]:
    """How each link is; where it leads and what is wrong with it is for administrators."""
    return {"bridges": [_row(link, all_of_it=call.caller.administers) for link in services.bridges.listed()]}


def _row(link: Any, *, all_of_it: bool) -> dict[str, Any]:
    row = {name: getattr(link, name) for name in ("name", "state", "since", "peers", "sessions")}
    if all_of_it:
        row["url"] = link.url
        if link.error is not None:
            row["error"] = link.error
    return row
