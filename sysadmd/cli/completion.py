"""`sysadmd completion`."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash: sysadmd completion bash > ~/.local/share/bash-completion/completions/sysadmd
    zsh:  sysadmd completion zsh > "${fpath[1]}/_sysadmd"
    fish: sysadmd completion fish > ~/.config/fish/completions/sysadmd.fish
    """  # noqa: D301 - \b is the character that keeps click from rewrapping
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "sysadmd", "_SYSADMD_COMPLETE").source())
