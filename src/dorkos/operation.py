"""What an operation is. Each is declared once, in its subsystem, and served on every surface from there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from dorkos.identity.model import Caller
from dorkos.vocabulary import Scope

S = TypeVar("S")
In = TypeVar("In", bound="Wire")
Out = TypeVar("Out")


class Wire(BaseModel):
    """Base of everything that crosses the wire: camelCase keys outside, snake_case names inside.

    Unknown keys are ignored, as the lineage did, so that an older client's extra fields do no harm.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class Nothing(Wire):
    """The input of an operation that takes none."""


class Success(Wire):
    """The answer of an operation that has nothing else to say. A 2xx never has an empty body."""

    success: bool = True


@dataclass(frozen=True)
class Operation(Generic[S, In, Out]):
    """One thing a caller can ask for.

    `handler` gets the subsystem (the attribute of the running system named by `part`), the caller and
    the validated input. Path parameters, query and JSON body are fields of the one input model; those
    named in `path` are taken from there. `answer` is the response type as FastAPI takes it.
    """

    name: str
    summary: str
    part: str
    method: Literal["GET", "POST", "PATCH", "PUT", "DELETE"]
    path: str
    scope: Scope
    input: type[In]
    answer: Any
    handler: Callable[[S, Caller, In], Awaitable[Out]]
    status: int = 200
    tags: tuple[str, ...] = field(default=())
    waits: bool = False
    """Whether it may wait for something to happen. It is cancelled then when its caller goes away, so that
    nothing is taken for somebody who is not there any more."""
