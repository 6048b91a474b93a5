"""Subjects and patterns, against a matcher too simple to be wrong."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorkos.errors import DorkError, ErrorCode
from dorkos.relay.policy import collide
from dorkos.relay.subjects import (
    SUBJECT_LENGTH_MAX,
    TOKENS_MAX,
    is_pattern,
    matches,
    subject_hash,
    validate_pattern,
    validate_subject,
)
from dorkos.relay.trie import PatternTrie

LITERALS = st.text("abAB01-_", min_size=1, max_size=3)
SUBJECTS = st.lists(LITERALS, min_size=1, max_size=TOKENS_MAX).map(".".join)
PATTERNS = st.builds(
    lambda tokens, tail: ".".join([*tokens, *tail]),
    st.lists(LITERALS | st.just("*"), min_size=1, max_size=TOKENS_MAX - 1),
    st.sampled_from([[], [">"]]),
)
# Of few different tokens, so that they often match.
CLOSE_SUBJECTS = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map(".".join)
CLOSE_PATTERNS = st.builds(
    lambda tokens, tail: ".".join([*tokens, *tail]),
    st.lists(st.sampled_from("ab*"), max_size=4),
    st.sampled_from([[], [">"]]),
).filter(bool)


def naive(subject: list[str], pattern: list[str]) -> bool:
    """By the definition, one token at a time."""
    if not pattern:
        return not subject
    if pattern[0] == ">":
        return len(subject) >= 1
    if not subject:
        return False
    return pattern[0] in ("*", subject[0]) and naive(subject[1:], pattern[1:])


def fault_of(text: str) -> ErrorCode | None:
    """What `validate_subject` says."""
    try:
        validate_subject(text)
    except DorkError as refusal:
        return refusal.code
    return None


@given(CLOSE_SUBJECTS | SUBJECTS, CLOSE_PATTERNS | PATTERNS)
def test_matching_is_the_definition(subject: str, pattern: str) -> None:
    """For every subject and pattern the fast matcher and the definition agree."""
    assert matches(subject, pattern) == naive(subject.split("."), pattern.split("."))


# Every subject that could tell two close patterns apart: they name no other token, and none is longer.
_ALL = [".".join(tokens) for length in range(1, 7) for tokens in product("abc", repeat=length)]


@given(CLOSE_PATTERNS, CLOSE_PATTERNS)
def test_patterns_collide_if_a_subject_matches_both(one: str, other: str) -> None:
    """Neither too many nor too few."""
    shared = any(matches(subject, one) and matches(subject, other) for subject in _ALL)
    assert collide(one, other) == collide(other, one) == shared


@given(SUBJECTS)
def test_a_subject_is_valid_and_matches_itself(subject: str) -> None:
    """Exact subjects pass, match themselves and `>`, and are no patterns."""
    validate_subject(subject)
    assert not is_pattern(subject)
    assert matches(subject, subject)
    assert matches(subject, ">")


@given(PATTERNS)
def test_a_pattern_is_valid_as_a_pattern(pattern: str) -> None:
    """Patterns pass as patterns; as subjects they are refused exactly if they hold a wildcard."""
    validate_pattern(pattern)
    assert fault_of(pattern) is (ErrorCode.WILDCARD_NOT_ALLOWED if is_pattern(pattern) else None)


@given(st.text(max_size=40) | st.text("a.*>", max_size=8))
def test_any_text_is_accepted_or_refused(text: str) -> None:
    """Nothing raises anything but a refusal, and what is accepted has only allowed characters."""
    if fault_of(text) is None:
        assert all(token and token.isascii() for token in text.split("."))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Subject must be a non-empty string"),
        (".".join("a" * (TOKENS_MAX + 1)), "Subject exceeds maximum token count of 16"),
        ("." * 16, "Subject exceeds maximum token count of 16"),
        ("a" * (SUBJECT_LENGTH_MAX + 1), "Subject exceeds maximum length of 512"),
        (".a", "Subject contains an empty token"),
        ("a.", "Subject contains an empty token"),
        ("a..b", "Subject contains an empty token"),
        (">.a", "`>` wildcard must be the last token in a subject"),
        ("a b", 'Token "a b" contains invalid characters (allowed: a-z, A-Z, 0-9, -, _)'),
        ("a.*x", 'Token "*x" contains invalid characters (allowed: a-z, A-Z, 0-9, -, _)'),
        ("a.\n", 'Token "\n" contains invalid characters (allowed: a-z, A-Z, 0-9, -, _)'),
        ("a.b\n", 'Token "b\n" contains invalid characters (allowed: a-z, A-Z, 0-9, -, _)'),
    ],
)
def test_a_refusal_names_the_first_fault(text: str, message: str) -> None:
    """The lineage's sentences, in the lineage's order."""
    with pytest.raises(DorkError) as refusal:
        validate_pattern(text)

    assert refusal.value.code is ErrorCode.INVALID_SUBJECT
    assert refusal.value.message == message


def test_the_limits_themselves_are_allowed() -> None:
    """Sixteen tokens and 512 characters."""
    validate_subject(".".join("a" * TOKENS_MAX))
    validate_subject("a" * SUBJECT_LENGTH_MAX)


@pytest.mark.parametrize(
    ("subject", "pattern", "expected"),
    [
        ("a.*", "a.*", True),
        ("a.>", "a.*", True),
        ("a", "a.>", False),
        ("A", "a", False),
        ("", "", True),
        ("", ">", False),
        ("", "*", False),
        ("a", "", False),
    ],
)
def test_odd_pairs_match_as_in_the_lineage(subject: str, pattern: str, expected: bool) -> None:
    """Wildcards in the subject are plain text, and nothing matches nothing."""
    assert matches(subject, pattern) is expected


def test_a_mailbox_has_the_lineages_hash() -> None:
    """Old data and old clients know mailboxes by it."""
    assert subject_hash("relay.system.console") == "8806c7805369"


@given(CLOSE_SUBJECTS | SUBJECTS, st.lists(CLOSE_PATTERNS | PATTERNS, max_size=20))
def test_the_trie_finds_what_each_pattern_by_itself_would(subject: str, patterns: list[str]) -> None:
    """Every pattern that stands for the subject, each as often as it was added, and no other."""
    trie: PatternTrie[int] = PatternTrie()
    for place, pattern in enumerate(patterns):
        trie.add(pattern, place)
    expected = [
        place for place, pattern in enumerate(patterns) if naive(subject.split("."), pattern.split("."))
    ]
    assert sorted(trie.find(subject)) == expected


@pytest.mark.parametrize("subject", ["*", ">", "a.*", "a.>", ""])
def test_the_trie_takes_wildcards_in_a_subject_for_text(subject: str) -> None:
    """As matching does; none of them is found twice."""
    patterns = ["*", ">", "a.*", "a.>", "a", "*.*"]
    trie: PatternTrie[str] = PatternTrie()
    for pattern in patterns:
        trie.add(pattern, pattern)
    assert sorted(trie.find(subject)) == sorted(each for each in patterns if matches(subject, each))
