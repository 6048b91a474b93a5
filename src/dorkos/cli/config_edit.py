"""The commands of `dorkos config` that work on the file itself: edit, validate, reset."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from dorkos.cli import config_text
from dorkos.cli.config_place import change_config, config_path, refuse_in_run
from dorkos.cli.options import Command, options_of
from dorkos.cli.render import say, show
from dorkos.errors import DorkError, ErrorCode

_EDITORS = ("nano", "vi")


def edit(context: typer.Context) -> None:
    """Open config.toml in $VISUAL or $EDITOR. What no server would start with is not taken over.

    Example:

        dorkos config edit
    """
    from dorkos.config_edit import NEW_FILE, replace
    from dorkos.config_file import read_text
    from dorkos.home import Home

    refuse_in_run("edit the settings")
    options = options_of(context)
    path = config_path(options)
    Home(path.parent).prepare()
    before = read_text(path)
    draft = _draft(NEW_FILE if before is None else before)
    try:
        _open(draft)
        after = draft.read_text(encoding="utf-8")
        changed = after != (NEW_FILE if before is None else before)
        if changed:
            replace(path, after, instead_of=before)
    except (DorkError, UnicodeDecodeError) as fault:
        raise _kept(fault, draft) from fault
    draft.unlink()
    answer = {"path": str(path), "changed": changed}
    show(options, answer, lambda found: say("Changed." if found["changed"] else "Nothing was changed."))


def validate(context: typer.Context) -> None:
    """Say whether a server would start with these settings. The exit code is 1 if it would not.

    Keys that nothing reads are told as well: a mistyped one has no effect.

    Example:

        dorkos config validate
    """
    from dorkos.config_view import no_setting, unknown_keys
    from dorkos.settings import load_settings
    from dorkos.start_rules import start_problems

    options = options_of(context)
    path = config_path(options)
    problems: list[str] = []
    try:
        loaded = load_settings(path, environment=os.environ)
        problems += [
            f"{key} (from {loaded.sources[key]}): {problem}"
            for key, problem in start_problems(loaded.values).items()
        ]
        problems += [
            f"{one.key} ({one.source}): {no_setting(one.key)}"
            for one in unknown_keys(path)
            if not one.is_lineage
        ]
    except DorkError as refusal:
        problems.append(refusal.message)
    show(options, {"ok": not problems, "path": str(path), "problems": problems}, config_text.checked)
    if problems:
        raise typer.Exit(1)


def reset(
    context: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="One setting; without it, all.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take one setting out of config.toml, or put the whole file aside: the defaults hold again.

    The file is renamed, not deleted.

    Example:

        dorkos config reset server.port
    """
    options = options_of(context)
    if key is not None:
        show(options, change_config(options, {key: None}), config_text.changed)
        return
    refuse_in_run("reset the settings")
    path = config_path(options)
    if path.exists() and not yes and not asked(f"Put {path} aside?", json=options.json):
        raise typer.Exit(1)
    show(options, aside(path), _tell_aside)


def aside(path: Path) -> dict[str, Any]:
    """Put the file aside under a name with the time in it. The answer says which, null if there was none."""
    from dorkos.clock import SystemClock
    from dorkos.config_edit import set_aside

    if not path.exists():
        return {"path": str(path), "keptAs": None}
    kept = set_aside(path, SystemClock().now().strftime("%Y%m%dT%H%M%SZ"))
    return {"path": str(path), "keptAs": None if kept is None else str(kept)}


def asked(question: str, *, json: bool) -> bool:
    """Whether a person says yes. Raises `usage` where there is nobody to ask."""
    if json or not sys.stdin.isatty():
        raise DorkError(
            ErrorCode.USAGE, f"{question} Nobody is here to answer.", hint="Repeat it with --yes."
        )
    return typer.confirm(question, default=False)


def _tell_aside(answer: Any) -> None:
    if answer["keptAs"] is None:
        say("There is no such file; every setting has its default already.")
    else:
        say(f"{answer['path']} was put aside as {answer['keptAs']}.")
        say("Settings hold as they would without it from the next start of the server on.")


def _draft(text: str) -> Path:
    descriptor, name = tempfile.mkstemp(prefix="dorkos-config-", suffix=".toml")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return Path(name)


def _open(draft: Path) -> None:
    chosen = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not chosen and not sys.stdin.isatty():
        # An editor that asks a terminal would wait for one for ever.
        raise DorkError(
            ErrorCode.USAGE,
            "Nobody is here to use an editor.",
            hint="`dorkos config set KEY VALUE` needs none, and EDITOR can name a program.",
        )
    words = shlex.split(chosen) if chosen else [name for name in _EDITORS if shutil.which(name)][:1]
    if not words:
        raise DorkError(ErrorCode.USAGE, "There is no editor.", hint="Name one in EDITOR.")
    try:
        code = subprocess.run([*words, str(draft)], check=False).returncode
    except OSError as fault:
        raise DorkError(
            ErrorCode.USAGE, f"The editor {words[0]!r} does not start: {fault.strerror}.", hint="Set EDITOR."
        ) from fault
    if code != 0:
        raise DorkError(ErrorCode.USAGE, f"The editor ended with code {code}; nothing was taken over.")


def _kept(fault: Exception, draft: Path) -> DorkError:
    refusal = fault if isinstance(fault, DorkError) else DorkError(ErrorCode.INVALID_SETTING, str(fault))
    return DorkError(
        refusal.code,
        refusal.message,
        hint=f"Nothing was changed. What you wrote is in {draft}.",
        details=refusal.details,
    )


def join(app: typer.Typer) -> None:
    """Add these commands to `dorkos config`."""
    command = functools.partial(app.command, cls=Command)
    command("edit")(edit)
    command("validate")(validate)
    command("reset")(reset)
