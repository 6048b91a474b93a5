"""Changing `config.toml`: one guarded way for the command line and for the API.

Comments, order and keys that this version does not know stay as they are. A file that cannot be read, or
that a newer version wrote, is never replaced. Writers take turns, and whoever reads sees the file before
or after a change, never half of it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dorkos.config_file import VERSION, parse_toml, read_text
from dorkos.config_view import REDACTED, refuse_unknown
from dorkos.errors import DorkError, ErrorCode
from dorkos.plain_file import refuse_special
from dorkos.settings import SETTING_BY_KEY, settings_of, value_of
from dorkos.start_rules import problem_of

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

Values = Mapping[str, object]

_TURN_WITHIN_S = 10.0
NEW_FILE = f"""\
# Settings of DorkOS. `dorkos config` shows all there are, and where each value comes from.
version = {VERSION}
"""


class SettingsRefusedError(DorkError):
    """A change that breaks a rule, with a message for each key. `details` has them for programs."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        """`problems` is not empty."""
        key, message = next(iter(problems.items()))
        super().__init__(
            ErrorCode.VALIDATION_FAILED,
            "Validation failed",
            hint=f"{key}: {message}{'' if message.endswith(('.', '?')) else '.'}",
            details=dict(problems),
        )
        self.problems = problems

    def body(self) -> dict[str, object]:
        """The lineage's clients read `details` as a list of `key: message`; `errors` has them by key."""
        lines = [f"{key}: {message}" for key, message in self.problems.items()]
        return {**super().body(), "details": lines, "errors": dict(self.problems)}


def change(config_path: Path, edits: Values) -> tuple[str, ...]:
    """Give settings these values, by their dotted keys; None takes the key out of the file.

    Returns the keys of which the file now says something else. All or nothing. Raises a refusal with a
    message for each key that is unknown or breaks a rule; `invalid_setting` if the file cannot be read.
    """
    wanted = checked(edits)
    with _turn(config_path):
        text = read_text(config_path)
        before = {} if text is None else _values(text, config_path)
        changed = tuple(key for key, value in wanted.items() if before.get(key) != value)
        if not changed:
            return ()
        after = NEW_FILE if text is None else text
        after = _edited(after, {key: wanted[key] for key in changed}, config_path)
        _write(config_path, after)
    return changed


def replace(config_path: Path, text: str, *, instead_of: str | None) -> None:
    """Put a whole new text in place, as an editor left it. Unknown keys are allowed in it.

    Raises `invalid_setting` for a text that no server would start with, and `conflict` if the file is not
    `instead_of` any more (None: there was none).
    """
    values = _values(text, config_path)
    settings = settings_of({key: value for key, value in values.items() if key in SETTING_BY_KEY})
    # Exposure is left to the start: a flag or the environment may say the rest.
    problems = {key: problem_of(key, value_of(settings, key)) for key in values if key in SETTING_BY_KEY}
    told = {key: problem for key, problem in problems.items() if problem is not None}
    if told:
        raise SettingsRefusedError(told)
    with _turn(config_path):
        if read_text(config_path) != instead_of:
            raise DorkError(
                ErrorCode.CONFLICT,
                f"{config_path} was changed by somebody else meanwhile.",
                hint="Look at what it says now, and make your change again.",
            )
        _write(config_path, text)


def create(config_path: Path, edits: Values) -> bool:
    """Make the file with these values, or leave the one that there is; returns whether it was made."""
    wanted = checked(edits)
    with _turn(config_path):
        if read_text(config_path) is not None:
            return False
        _write(config_path, _edited(NEW_FILE, wanted, config_path))
    return True


def set_aside(config_path: Path, stamp: str) -> Path | None:
    """Rename the file, so that every setting is back at what it would be without. None if there is none."""
    with _turn(config_path):
        place = config_path.with_name(f"{config_path.name}.{stamp}.bak")
        if place.exists():
            raise _unwritable(config_path, f"{place} exists already")
        try:
            config_path.rename(place)
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise _unwritable(config_path, fault.strerror or str(fault)) from fault
    return place


def checked(edits: Values) -> dict[str, object]:
    """The edits with each value as the file would say it. Raises what `change` would, and changes nothing."""
    problems = refuse_unknown(edits)
    found: dict[str, object] = {}
    for key, value in edits.items():
        if key in problems or value is None:
            found[key] = None
            continue
        try:
            found[key] = value_of(settings_of({key: value}), key)
        except DorkError as refusal:
            details = refusal.details or {}
            problems[key] = str(details.get(key, refusal.message))
            continue
        problem = problem_of(key, found[key])
        if SETTING_BY_KEY[key].secret and REDACTED in str(found[key]):
            problem = f"{REDACTED} stands where the secret was hidden; write it out"
        if problem is not None:
            problems[key] = problem
    if problems:
        raise SettingsRefusedError(problems)
    return found


def _values(text: str, path: Path) -> dict[str, object]:
    document = parse_toml(text, path)
    return {
        f"{section}.{name}": value
        for section, body in document.items()
        if isinstance(body, dict)
        for name, value in body.items()
    }


def _edited(text: str, edits: Values, path: Path) -> str:
    import tomlkit

    document = tomlkit.parse(text)
    for key, value in edits.items():
        section, name = key.split(".", 1)
        if value is None:
            _remove(document, section, name)
        else:
            _section(document, section, path)[name] = value
    after = tomlkit.dumps(document)
    expected = {**_values(text, path), **edits}
    if _values_or_nothing(after) != {key: value for key, value in expected.items() if value is not None}:
        # Whatever the form of the file that the editor does not get right: better no change than a wrong one.
        raise _unwritable(path, "its form is too unusual to be edited by a program; edit it by hand")
    return after


def _values_or_nothing(text: str) -> dict[str, object] | None:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None
    return _values(text, Path())


def _section(document: TOMLDocument, name: str, path: Path) -> MutableMapping[str, Any]:
    if name not in document:
        document[name] = {}
    section = document[name]
    if not isinstance(section, MutableMapping):
        raise _unwritable(path, f"`{name}` is no table there")
    return section


def _remove(document: TOMLDocument, section: str, name: str) -> None:
    body = document.get(section)
    if isinstance(body, MutableMapping):
        body.pop(name, None)


@contextlib.contextmanager
def _turn(config_path: Path) -> Iterator[None]:
    """Wait for other writers, then keep them out. The lock is a file of its own: ours is replaced."""
    from filelock import FileLock, Timeout

    lock = FileLock(config_path.with_name("config.lock"), timeout=_TURN_WITHIN_S, mode=0o600)
    try:
        lock.acquire()
    except Timeout as fault:
        raise DorkError(
            ErrorCode.CONFLICT,
            f"Somebody else has been changing {config_path} for {_TURN_WITHIN_S:.0f} s.",
            hint="Try again; nothing was changed.",
        ) from fault
    except OSError as fault:
        raise _unwritable(config_path, fault.strerror or str(fault)) from fault
    try:
        yield
    finally:
        lock.release()


def _write(config_path: Path, text: str) -> None:
    """Replace the file in one step, readable by its owner alone. A link keeps leading where it leads."""
    try:
        refuse_special(config_path)
        place = config_path.resolve()
        descriptor, name = tempfile.mkstemp(prefix=".config-", suffix=".toml", dir=place.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(place)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(place.parent)
    except OSError as fault:
        raise _unwritable(config_path, fault.strerror or str(fault)) from fault


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, why: str) -> DorkError:
    return DorkError(
        ErrorCode.INVALID_SETTING,
        f"{path} cannot be changed: {why}.",
        hint="Nothing was changed. `dorkos config path` names the file.",
    )
