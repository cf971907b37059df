"""`sysadmd config check`."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def config() -> None:
    """Check a configuration file."""


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
def check(file: Path | None) -> None:
    """Check a configuration FILE, and what it names.

    Without FILE, what the server would use without one is checked. A problem is one line on standard error, and exit
    code 2.
    """
    from sysadmd.config import load

    found = load(file)
    for table, pair in (("listen", found.listen), ("relay", found.relay)):
        if pair.certificate is not None and pair.key is not None:
            from sysadmd.keys.certificate import check_certificate

            check_certificate(pair.certificate, pair.key, source=str(file), table=table)
    click.echo(f"{file or 'defaults'}: ok")
