"""What is wrong with a field, said to whoever filled it in."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, Field, ValidationError

from dorkos.console.complaints import plainly


class _Input(BaseModel):
    name: str = Field("a", min_length=1, max_length=2000)
    word: str = Field("a", pattern="^[0-9A-Za-z_-]{1,64}$")
    number: int = Field(1, ge=1, le=90)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": ""}, "Fill this in."),
        ({"name": "x" * 3000}, "Write at most 2\u202f000 characters."),
        ({"word": "a b"}, "Use letters, digits, - and _ only, at most 64 of them."),
        ({"number": "x"}, "Write a whole number."),
        ({"number": 0}, "It must be at least 1 s."),
        ({"number": 91}, "It may be at most 90 s."),
    ],
)
def test_what_the_models_say_is_said_in_plain_words(given: dict[str, object], said: str) -> None:
    """In those of the library that is installed: were they to change there, this would tell."""
    with pytest.raises(ValidationError) as refused:
        _Input.model_validate(given)
    assert said == plainly(refused.value.errors()[0]["msg"], "{} s".format)


def test_what_says_what_to_do_already_stays() -> None:
    """Our own checks speak to people."""
    assert plainly("Required from agents") == "Required from agents"
