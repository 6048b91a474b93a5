"""A change of settings as a person makes it: what became of each key, and what they should know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dorkos.config_edit import change
from dorkos.config_view import LINEAGE_ONLY, holds_password
from dorkos.settings import SETTING_BY_KEY, LoadedSettings, load_settings
from dorkos.start_rules import start_problems


@dataclass(frozen=True, slots=True)
class Change:
    """`changed` are the keys of which the file now says something else, `remarks` are for whoever changed
    them, and `coming` is what the next start would find."""

    changed: tuple[str, ...]
    remarks: tuple[str, ...]
    coming: LoadedSettings


def change_settings(
    path: Path,
    edits: Mapping[str, object],
    *,
    environment: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
) -> Change:
    """Write these values into the file; None takes a key out.

    Keys of DorkOS for Node that nothing reads are left out and remarked on. All or nothing: raises a refusal
    with a message for each key that is unknown or breaks a rule.
    """
    changed = change(path, {key: value for key, value in edits.items() if key not in LINEAGE_ONLY})
    coming = load_settings(path, environment=environment, flags=flags)
    return Change(changed, tuple(_remarks(edits, coming)), coming)


def _remarks(edits: Mapping[str, object], coming: LoadedSettings) -> Iterable[str]:
    for key, problem in start_problems(coming.values).items():
        # Not refused: this change may be the first of two that belong together.
        yield f"No server would start as it stands now, for '{key}': {problem}"
    for key, value in edits.items():
        if key in LINEAGE_ONLY:
            yield f"'{key}' was a setting of DorkOS for Node; nothing here reads it, so it was not kept."
            continue
        variable = SETTING_BY_KEY[key].env
        if coming.sources[key] == "flag":
            yield f"'{key}' has no effect while the server runs with the flag that says otherwise."
        elif coming.sources[key] == "environment":
            yield f"'{key}' has no effect while {variable} is set in the environment."
        elif value is not None and holds_password(key, value):
            yield (
                f"'{key}' holds a secret, which now stands in the settings file; {variable} in the "
                "environment would keep it out of there."
            )
