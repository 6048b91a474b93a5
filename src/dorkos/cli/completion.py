"""`dorkos completion`: what a shell needs to complete nouns, verbs and options."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from dorkos.cli.options import options_of
from dorkos.cli.render import print_json, raw

# By this the shell asks what could come next; `main` answers.
ASKED_BY = "_DORKOS_COMPLETE"


class Shell(StrEnum):
    """The shells that are known."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    context: typer.Context, shell: Annotated[Shell, typer.Argument(help="Your shell.", show_default=False)]
) -> None:
    """Print what your shell has to read for it to complete `dorkos` at the Tab key. Changes nothing.

    bash: add `eval "$(dorkos completion bash)"` to ~/.bashrc. zsh: the same with zsh in ~/.zshrc, below
    `compinit`. fish: `dorkos completion fish > ~/.config/fish/completions/dorkos.fish`.

    Example:

        dorkos completion bash
    """
    # Typer offers it to its own options only, which write into the files of the shell by themselves.
    from typer._completion_shared import get_completion_script

    script = get_completion_script(prog_name="dorkos", complete_var=ASKED_BY, shell=shell.value)
    if options_of(context).json:
        print_json({"shell": shell.value, "script": script})
    else:
        raw(f"{script}\n")
