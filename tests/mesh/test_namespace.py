"""Namespaces are one clean token, whatever they come from."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from dorkos.errors import DorkError, ErrorCode
from dorkos.mesh.namespace import choose_namespace, normalise

PROJECT = PurePosixPath("/srv/My Team/scout")


@pytest.mark.parametrize(
    ("text", "namespace"),
    [
        ("team", "team"),
        ("My_App", "my-app"),
        ("my.app", "my-app"),
        ("  --A--b  ", "a-b"),
        ("Café", "caf"),
        ("日本", ""),
        ("relay.agent.>", "relay-agent"),
        ("*", ""),
    ],
)
def test_normalising(text: str, namespace: str) -> None:
    """No wildcard, dot or space of a subject survives."""
    assert normalise(text) == namespace


def test_what_is_stated_goes_first() -> None:
    """Normalised, and blank states nothing."""
    assert choose_namespace(PROJECT, "The Others") == "the-others"
    assert choose_namespace(PROJECT, "") == "my-team"
    assert choose_namespace(PROJECT, "   ") == "my-team"
    assert choose_namespace(PROJECT, None) == "my-team"


@pytest.mark.parametrize("stated", ["日本", "*", "n" * 65])
def test_a_stated_namespace_that_cannot_be_kept_is_refused(stated: str) -> None:
    """A person who names one is told, instead of getting another."""
    with pytest.raises(DorkError) as refusal:
        choose_namespace(PROJECT, stated)
    assert refusal.value.code is ErrorCode.VALIDATION_FAILED


@pytest.mark.parametrize(
    ("project", "namespace"),
    [
        ("/scout", "default"),
        ("/", "default"),
        ("/srv/日本/scout", "default"),
        ("/srv/.claude/scout", "claude"),
        (f"/srv/{'n' * 63}--x/scout", "n" * 63),
    ],
)
def test_a_derived_namespace_is_never_empty_or_too_long(project: str, namespace: str) -> None:
    """No folder's name can keep an agent from being registered."""
    assert choose_namespace(PurePosixPath(project), None) == namespace
