"""What a group of settings is made of."""

from __future__ import annotations

import os
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel

T = TypeVar("T")


def setting(
    default: T,
    env: str,
    meaning: str,
    *,
    secret: bool = False,
    live: bool = False,
    separator: str = os.pathsep,
    **rules: Any,
) -> T:
    """A setting. No answer ever shows what is `secret` in one; a change of a `live` one needs no restart.

    `separator` stands between the items of a list in the environment.
    """
    facts: dict[str, Any] = {"env": env, "secret": secret, "live": live, "separator": separator}
    field: T = Field(default, description=meaning, json_schema_extra=facts, validate_default=False, **rules)
    return field


class Group(BaseModel):
    """Settings that belong together: immutable, in camel case outside; names it does not know are ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        """Python takes true for 1, which nobody means who writes `port = true`."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise ValueError("Input should be a number")
        return value
