"""Payloads: kept as text, refused when nobody could read them back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorkos.errors import DorkError, ErrorCode
from dorkos.relay.payload import DEPTH_MAX, encode, prompt_of, shown

TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
)


def nested(levels: int) -> object:
    """Lists in lists."""
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@given(JSON)
def test_what_goes_in_comes_out(value: object) -> None:
    """Every JSON value survives, with its order of keys."""
    text = encode(value)
    assert json.loads(text) == value
    assert encode(json.loads(text)) == text


@pytest.mark.parametrize(
    "value", ["\x00", {"a\x00": 1}, "\ud800", float("nan"), float("inf"), 2**63, [[-(2**64)]]]
)
def test_what_cannot_be_stored_is_refused(value: object) -> None:
    """Neither engine is asked to keep it."""
    with pytest.raises(DorkError) as refusal:
        encode(value)
    assert refusal.value.code is ErrorCode.INVALID_TEXT


def test_nesting_is_bounded() -> None:
    """As deep as allowed passes; one level more, and very much more, are refused."""
    encode(nested(DEPTH_MAX))
    for levels in (DEPTH_MAX + 1, 100_000):
        with pytest.raises(DorkError) as refusal:
            encode(nested(levels))
        assert refusal.value.code is ErrorCode.INVALID_JSON


@pytest.mark.parametrize(
    ("payload", "prompt"),
    [
        ("do it", "do it"),
        ({"content": "do it", "more": 1}, "do it"),
        ({"content": 7}, '{"content":7}'),
        ([1, "ü"], '[1,"ü"]'),
        (None, "null"),
    ],
)
def test_a_prompt_is_the_text_of_a_message(payload: Any, prompt: str) -> None:
    """The string itself, its `content`, or the JSON."""
    assert prompt_of(encode(payload)) == prompt


def test_a_message_without_payload_has_an_empty_prompt() -> None:
    """Nothing was said."""
    assert prompt_of(None) == ""


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        ('"\\ud83d"', "\ufffd"),
        ('{"\\uD83D":["x\\udc00"]}', {"\ufffd": ["x\ufffd"]}),
        ('"\\ud83d\\ude00"', "😀"),
        ('"a\\u0000b"', "a\x00b"),
        ('"\\\\ud83d"', "\\ud83d"),
        ("null", None),
    ],
)
def test_an_imported_payload_can_be_answered(payload: str, value: object) -> None:
    """Half an emoji has no place in UTF-8; whatever else was stored stays as it is."""
    assert shown(payload) == value


@pytest.mark.parametrize("payload", ['"a\\u0000\\ud83d"', '{"content":"a\\u0000\\ud83d"}'])
def test_an_imported_payload_can_start_a_run(payload: str) -> None:
    """No prompt holds what no program could be given."""
    assert prompt_of(payload) == "a\ufffd\ufffd"
