"""`sysadmd call`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click

from sysadmd.cli.connection import ConnectionOptions, connection_options
from sysadmd.cli.values import seconds


@click.command()
@click.argument("method", metavar="NAMESPACE/NAME[/ACTION]")
@click.argument("args_json", metavar="[ARGS_JSON]", default="{}")
@click.option("--timeout", type=seconds, metavar="D", help="How long to wait, such as 90 or 5m. [default: 30]")
@connection_options
def call(method: str, args_json: str, timeout: float | None, connection: ConnectionOptions) -> None:
    """Call a method and print its result.

    ARGS_JSON is the call's arguments as JSON; - reads them from standard input.

    \b
    sysadmd call rpc/query
    sysadmd call rpc/dispatcher/run '{"scrub": ["zpool scrub tank"]}'
    """  # noqa: D301 - \b is the character that keeps click from rewrapping
    from sysadmd.cli.render import print_json
    from sysadmd.client.channel import split_method

    try:
        action = split_method(method)[2]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    # The password is the first line of standard input, the arguments may be the rest: that order is fixed here.
    client = connection.client()
    args = parse_args(sys.stdin.read() if args_json == "-" else args_json)
    if action is not None and not isinstance(args, dict):
        raise click.UsageError(f"ARGS_JSON of {method} is not an object")

    async def once() -> Any:
        async with client:
            return await client.call(method, args, timeout=timeout)

    print_json(asyncio.run(once()))


def parse_args(text: str) -> Any:
    """The arguments of a call. Nothing at all is `{}`."""
    import msgspec

    try:
        return msgspec.json.decode(text) if text.strip() else {}
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise click.UsageError(f"ARGS_JSON is no JSON: {error}") from error
