"""`sysadmd completion`."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.option("--program", type=click.Choice(["sysadmd", "coco"]), default="sysadmd", help="[default: sysadmd]")
@click.pass_context
def completion(ctx: click.Context, shell: str, program: str) -> None:
    """Print the completion script of a shell.

    \b
    bash: sysadmd completion bash > ~/.local/share/bash-completion/completions/sysadmd
    zsh:  sysadmd completion zsh > "${fpath[1]}/_sysadmd"
    fish: sysadmd completion fish > ~/.config/fish/completions/sysadmd.fish
    """  # noqa: D301 - \b is the character that keeps click from rewrapping
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    # The script asks the program itself; the command is not looked at.
    click.echo(kind(ctx.find_root().command, {}, program, f"_{program.upper()}_COMPLETE").source())
