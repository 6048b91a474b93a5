"""The `dorkos` command: its nouns, and what becomes of a fault."""

from __future__ import annotations

import errno
import itertools
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

from dorkos import __version__
from dorkos.cli import (
    approvals,
    completion,
    config,
    config_edit,
    db,
    doctor,
    events,
    fleet,
    init,
    mcp,
    mesh,
    open,  # noqa: A004  # The command's name; nothing here opens a file by that word.
    pulse,
    pulse_reading,
    relay,
    runtime,
    service,
    sessions,
    status,
    token,
    up,
)
from dorkos.cli.options import (
    Command,
    HomeOption,
    JsonOption,
    Options,
    TokenOption,
    Top,
    UrlOption,
    options_of,
)
from dorkos.cli.render import print_json, visible
from dorkos.errors import DorkError, ErrorCode

# What a shell reports for a program that its reader or Ctrl-C ended.
_INTERRUPTED = 130
_READER_GONE = 141
# The command was carried out, but what it has to say could not be written (EX_IOERR of sysexits.h).
_NOT_WRITTEN = 74
_OUTPUT_FAULTS = frozenset({errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT})

app = typer.Typer(
    name="dorkos",
    help="""The layer under the agents you run: schedules, messages and a registry over one database.

    Start the server with `dorkos up`, then look around with `dorkos status` in another terminal.
    """,
    cls=Top,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(context: typer.Context, wanted: bool) -> None:
    if not wanted:
        return
    if options_of(context).json:
        print_json({"version": __version__})
    else:
        print(f"dorkos {__version__}")
    raise typer.Exit


@app.callback()
def _top(
    json: JsonOption = False,
    home: HomeOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Only its options are used; `options` keeps what was given."""


app.command("up", cls=Command)(up.up)
app.command("init", cls=Command)(init.init)
app.command("open", cls=Command)(open.open_console)
app.command("status", cls=Command)(status.status)
app.command("doctor", cls=Command)(doctor.doctor)
app.command("events", cls=Command)(events.events)
app.command("mcp", cls=Command)(mcp.mcp)
app.command("completion", cls=Command)(completion.completion)
app.add_typer(service.app, name="service")
config_edit.join(config.app)
app.add_typer(config.app, name="config")
app.add_typer(token.app, name="token")
app.add_typer(fleet.app, name="fleet")
pulse_reading.join(pulse.app)
app.add_typer(pulse.app, name="pulse")
app.add_typer(approvals.app, name="approvals")
app.add_typer(runtime.app, name="runtime")
app.add_typer(relay.app, name="relay")
app.add_typer(mesh.app, name="mesh")
app.add_typer(sessions.app, name="sessions")
app.add_typer(db.app, name="db")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 it worked and the answer is no, 74 it was carried
    out but the answer could not be written, else by error code.

    No fault leaves it as an exception: a refusal is printed as `error:` and `hint:` on standard error, or
    with --json as `{error, code, details?, hint?}` on standard output.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if completion.ASKED_BY in os.environ:
        app(prog_name="dorkos")  # The shell asks what could come next; Typer answers and ends.
    # Known before the words are parsed, because they may turn out to be no command.
    options = Options(json="--json" in itertools.takewhile(lambda word: word != "--", words))
    _have_streams()
    _take_any_text()
    try:
        code = _run(words, options)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        return _READER_GONE
    except OSError as fault:
        # Whatever the command did is done: whoever repeats it would do it twice.
        _silence_stdout()
        sys.stderr.write(f"error: the answer could not be written: {fault.strerror}\n")
        return _NOT_WRITTEN
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


def _have_streams() -> None:
    """Started with a closed stream, Python has None in its place, and every print would be a fault."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # For the whole process.
            setattr(sys, name, nowhere)


def _run(words: list[str], options: Options) -> int:
    try:
        with _commands().make_context("dorkos", words, obj=options) as context:
            _commands().invoke(context)
    except typer.Exit as done:
        return done.exit_code
    except typer.TyperException as misuse:
        return _report_misuse(misuse, options)
    except DorkError as refusal:
        return _report(refusal, options)
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except OSError as fault:
        if fault.errno in _OUTPUT_FAULTS:
            raise
        return _report(_internal(fault), options)
    except Exception as fault:  # noqa: BLE001  # The last place where it can become a message.
        return _report(_internal(fault), options)
    return 0


@cache
def _commands() -> Any:
    """All commands, as Typer makes them: for somebody who calls many in one process, that takes longest."""
    return typer.main.get_command(app)


def _report(refusal: DorkError, options: Options) -> int:
    if options.json:
        print_json(refusal.body())
        return refusal.exit_code
    sys.stdout.flush()
    sys.stderr.write(f"error: {visible(refusal.message)} ({refusal.code.value})\n")
    if refusal.hint:
        sys.stderr.write(f"hint: {visible(refusal.hint)}\n")
    return refusal.exit_code


def _report_misuse(misuse: typer.TyperException, options: Options) -> int:
    message = misuse.format_message().strip()
    if not message:
        return misuse.exit_code  # A noun without a verb: Typer has printed the help.
    command = getattr(getattr(misuse, "ctx", None), "command_path", "dorkos")
    return _report(
        DorkError(ErrorCode.USAGE, message, hint=f"`{command} --help` shows how it is used."), options
    )


def _internal(fault: Exception) -> DorkError:
    """An unexpected fault as a refusal that says where its details are."""
    hint = "Please report it together with that file."
    try:
        with tempfile.NamedTemporaryFile("wb", prefix="dorkos-fault-", suffix=".log", delete=False) as file:
            report = f"dorkos {__version__}\n{''.join(traceback.format_exception(fault))}"
            file.write(report.encode("utf-8", errors="backslashreplace"))
        where = f"the details are in {file.name}"
    except OSError as unwritable:
        where, hint = f"its details could not be written: {unwritable}", "Please report it."
    return DorkError(
        ErrorCode.INTERNAL_ERROR, f"A fault of dorkos itself, {type(fault).__name__}; {where}.", hint=hint
    )


def _take_any_text() -> None:
    """What the terminal's encoding lacks is shown as an escape; it never ends the command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _silence_stdout() -> None:
    # The interpreter flushes standard output once more at exit, which would fail again, visibly.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
