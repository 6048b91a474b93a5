"""What an operation is. Each is declared once, in its subsystem, and served on every surface from there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
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


def left_out(**rules: Any) -> Any:
    """A field that is left out of the answer when there is nothing to say."""
    return Field(default=None, exclude_if=_is_none, **rules)


class Nothing(Wire):
    """The input of an operation that takes none."""


class Success(Wire):
    """The answer of an operation that has nothing else to say. A 2xx never has an empty body."""

    success: bool = True


@dataclass(frozen=True)
class McpTool:
    """The tool that agents call an operation by.

    A tool takes the operation's input and answers with its answer, unless it says otherwise: `input` is
    then what the tool takes, which `ask` turns into the operation's input, and `answer` is what it gives,
    which `present` makes of the tool's input and the operation's answer. The answer is always an object.
    The four marks tell clients what a call does; they grant and forbid nothing.
    """

    name: str
    description: str
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False
    open_world: bool = False
    input: type[Wire] | None = None
    ask: Callable[[Any], Any] | None = None
    answer: Any = None
    present: Callable[[Any, Any], Any] | None = None


@dataclass(frozen=True)
class NoTool:
    """An operation that agents cannot call by a tool, and why."""

    reason: str


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
    scope: Scope | None
    """What the token must allow; None lets every token that holds."""
    input: type[In]
    answer: Any
    handler: Callable[[S, Caller, In], Awaitable[Out]]
    status: int = 200
    in_query: frozenset[str] = frozenset()
    """Keys that stand in the query of the address although the rest comes in a body."""
    tags: tuple[str, ...] = field(default=())
    waits: bool = False
    """Whether it may wait for something to happen. It is cancelled then when its caller goes away, so that
    nothing is taken for somebody who is not there any more."""
    live: bool = False
    """Whether it asks for work that only a running server does. Without one it is refused, not queued."""
    next_page: Callable[[Any, Any], str | None] | None = None
    """Of the input and the answer, the place where the next page of a list begins. REST says it in the header
    X-Next-Cursor, so that the list itself stays bare."""
    mcp: McpTool | NoTool | None = None
    """Its tool, or why there is none. A test fails for an operation that says neither."""


def _is_none(value: object) -> bool:
    return value is None
