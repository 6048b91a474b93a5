"""Namespaces: one token of an agent's Relay address, decided once at registration and never changed."""

from __future__ import annotations

import re
from pathlib import PurePath

from dorkos.errors import DorkError, ErrorCode

MAX_LENGTH = 64
FALLBACK = "default"


def normalise(text: str) -> str:
    """Lower case; all but a-z, 0-9 and the hyphen becomes a hyphen; no hyphens doubled or at the ends.

    May be empty. Different texts can become the same namespace: `My_App` and `my.app` both do.
    """
    return re.sub(r"-+", "-", re.sub(r"[^a-z0-9-]", "-", text.lower())).strip("-")


def choose_namespace(project: PurePath, stated: str | None) -> str:
    """The namespace of a new agent at `project`.

    What a person or the manifest states is taken, normalised; raises `validation_failed` if nothing or
    too much is left of it. If nothing is stated, it is the name of the directory that holds the project
    (agents that lie side by side belong together), cut to length; if nothing is left of that, `default`.
    """
    if stated is not None and stated.strip():
        return _checked(stated)
    return normalise(project.parent.name)[:MAX_LENGTH].strip("-") or FALLBACK


def _checked(stated: str) -> str:
    namespace = normalise(stated)
    if not namespace or len(namespace) > MAX_LENGTH:
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"The namespace {stated!r} cannot be used: it becomes {namespace!r}.",
            hint=f"Give 1 to {MAX_LENGTH} letters a to z, digits and hyphens.",
        )
    return namespace
