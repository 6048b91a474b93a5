"""Redaction does not depend on how a text was cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorkos.pulse.redaction import REDACTED, SHAPE_MIN, Redactor, Secrets

LETTERS = st.text(alphabet="ab", max_size=40)
WORDS = st.text(alphabet="ab ", max_size=60)
SECRET = st.text(alphabet="ab", min_size=4, max_size=9)


def told(secrets: Secrets, pieces: list[str]) -> str:
    """What is shown of a text that comes in pieces."""
    redactor = Redactor(secrets)
    return "".join(redactor.take(piece, end=False) for piece in pieces) + redactor.take("", end=True)


@given(pieces=st.lists(LETTERS, max_size=8), secrets=st.lists(SECRET, max_size=4))
def test_pieces_are_redacted_like_the_whole(pieces: list[str], secrets: list[str]) -> None:
    """Letter by letter, in any pieces or at once: the same text is shown, and no secret in it."""
    known, whole = Secrets(secrets), "".join(pieces)
    shown = told(known, pieces)
    assert shown == told(known, list(whole)) == known.hide(whole)
    # A replacement parts the text: what stands beside it is looked at for itself.
    for part in shown.split(REDACTED):
        assert not any(secret in part for secret in secrets)


@given(
    pieces=st.lists(WORDS, max_size=6),
    secrets=st.lists(SECRET, max_size=3),
    shapes=st.lists(st.text(alphabet="ab", min_size=3, max_size=5), min_size=1, max_size=3),
)
def test_shapes_are_redacted_alike_in_any_pieces(
    pieces: list[str], secrets: list[str], shapes: list[str]
) -> None:
    """A token that began in one piece is not shown where it goes on in the next."""
    known, whole = Secrets(secrets, shapes=shapes), "".join(pieces)
    shown = told(known, pieces)
    assert shown == told(known, list(whole)) == known.hide(whole)
    for part in shown.split(REDACTED):
        assert not any(re.search(f"{shape}[ab]{{{SHAPE_MIN},}}", part) for shape in shapes)


def test_a_shape_is_no_secret_without_a_token_behind_it() -> None:
    """Words that merely begin like one stay; a token of any length goes as a whole."""
    secrets = Secrets.named([], patterns=["sk-*", "swordfish"])
    text = "sk-short sk- swordfish sk-" + "Az09_-" * 500 + " end"
    assert secrets.hide(text) == told(secrets, list(text)) == "sk-short sk- [redacted] [redacted] end"


@given(text=LETTERS, secrets=st.lists(SECRET, min_size=1, max_size=4))
def test_only_what_may_become_a_secret_is_held_back(text: str, secrets: list[str]) -> None:
    """What is not shown yet is shorter than the longest secret."""
    held = Secrets(secrets).part(text).held
    assert len(held) < max(map(len, secrets))


@pytest.mark.parametrize("short", ["", "a", "abc"])
def test_a_short_value_is_no_secret(short: str) -> None:
    """It would be found everywhere."""
    assert Secrets([short]).hide("abcabc") == "abcabc"


def test_the_longer_of_two_secrets_is_hidden_whole() -> None:
    """Also when the shorter one, with which it begins, has come already."""
    secrets = Secrets(["token", "token-of-gold"])
    assert told(secrets, ["my token", "-of-gold, my token", "-of-lead"]) == (
        "my [redacted], my [redacted]-of-lead"
    )
