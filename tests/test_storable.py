"""What may be stored is decided at the edge, the same for both engines."""

from __future__ import annotations

import pytest

from dorkos.errors import DorkError, ErrorCode
from dorkos.storable import DEPTH_MAX, check_storable, clean_text, parse_json


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":"\\u0000"}',
        b'{"\\u0000":1}',
        b'{"a":["\\ud83d"]}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":9223372036854775808}',
        b'{"a":1e999}',
        b'{"a":' + b"9" * 10_000 + b"}",
    ],
)
def test_values_that_one_engine_cannot_keep_are_refused(body: bytes) -> None:
    """U+0000, lone surrogates, NaN, infinities and integers beyond 64 bits, at any depth."""
    with pytest.raises(DorkError) as refusal:
        parse_json(body)

    assert refusal.value.code == ErrorCode.INVALID_TEXT


@pytest.mark.parametrize(
    "body", [b'{"a":1,"a":1}', b'{"o":[{"b":{"a":1,"\\u0061":2}}]}', b'{"a":1,"b":2,"a":3}']
)
def test_an_object_with_a_key_twice_is_refused(body: bytes) -> None:
    """However deep, and however the key is written: which of the two was meant cannot be known."""
    with pytest.raises(DorkError, match="'a'") as refusal:
        parse_json(body)

    assert refusal.value.code is ErrorCode.INVALID_JSON


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b"9" * 10_000])
def test_bodies_that_are_not_json_are_refused_without_a_crash(body: bytes) -> None:
    """Also one that is nested deeper than the parser goes, or a number longer than it takes."""
    with pytest.raises(DorkError) as refusal:
        parse_json(body)

    assert refusal.value.code in (ErrorCode.INVALID_JSON, ErrorCode.INVALID_TEXT)


def test_nesting_is_bounded() -> None:
    """As deep as allowed passes, in arrays and objects; one level more, and very many, are refused."""

    def nested(levels: int) -> object:
        value: object = 1
        for level in range(levels):
            value = [value] if level % 2 else {"a": value}
        return value

    check_storable(nested(DEPTH_MAX))
    for levels in (DEPTH_MAX + 1, 100_000):
        with pytest.raises(DorkError) as refusal:
            check_storable(nested(levels))
        assert refusal.value.code is ErrorCode.INVALID_JSON


def test_ordinary_values_pass() -> None:
    """Emoji, the largest integer, nesting and null are fine."""
    check_storable({"a": ["🙂", 2**63 - 1, -(2**63), 1.5, True, None, {"b": "é"}]})


def test_program_output_is_cleaned_not_refused() -> None:
    """A run's output may hold anything; what cannot be stored is shown as U+FFFD."""
    assert clean_text("a\x00b\ud83dc") == "a\ufffdb\ufffdc"
