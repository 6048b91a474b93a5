"""The operations about tokens: who may get in, and who asks."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from dorkos.clock import iso
from dorkos.identity.model import Caller
from dorkos.identity.token_list import Token, TokenService, kind_of
from dorkos.operation import McpTool, Nothing, NoTool, Operation, Wire
from dorkos.storable import check_storable
from dorkos.vocabulary import Scope, TokenKind

_PATH = "/api/tokens"
_PAGE_MAX = 500
_NOT_FOR_AGENTS = NoTool("Whom to let in is decided by the operator: `dorkos token`.")


class TokenOut(Wire):
    """A token without its secret. `holds` is false once it has expired or was revoked.

    `lastUsedAt` is null if it was never used; it is noted at most once a minute.
    """

    id: str
    kind: TokenKind
    name: str | None
    subject: str
    scopes: list[Scope]
    agent_id: str | None
    run_id: str | None
    created_by: str | None
    created_at: str
    expires_at: str
    last_used_at: str | None
    revoked_at: str | None
    holds: bool


class TokenMade(TokenOut):
    """A new token. `token` is its secret, told this once."""

    token: str


class NewTokenInput(Wire):
    """What to make. An agent's token is made by `/api/mesh/agents/{id}/token`."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)] = Field(
        description="What you call it, such as `phone`."
    )
    kind: Literal["operator", "read-only"] = Field(
        "read-only", description="`read-only` sees everything and changes nothing; `operator` may do all."
    )
    days: int = Field(90, ge=1, le=3650, description="Days until it expires.")


class TokensInput(Wire):
    """Which to list."""

    ended: bool = Field(False, description="Also those that expired or were revoked.")
    runs: bool = Field(False, description="Also those of runs, which end with them.")
    cursor: str | None = Field(None, description="Where the page begins.")
    limit: int = Field(100, ge=1, le=_PAGE_MAX)


class TokenInput(Wire):
    """One token."""

    id: str


class WhoAmI(Wire):
    """Who the token of this request belongs to, and what it allows."""

    subject: str
    kind: TokenKind
    scopes: list[Scope]
    agent_id: str | None
    run_id: str | None


async def _list(service: TokenService, _caller: Caller, asked: TokensInput) -> list[TokenOut]:
    check_storable(asked.cursor)
    found = await service.tokens(ended=asked.ended, runs=asked.runs, before=asked.cursor, limit=asked.limit)
    return [TokenOut(**_facts(service, token)) for token in found]


def _next_page(asked: TokensInput, found: list[TokenOut]) -> str | None:
    return found[-1].id if len(found) == asked.limit else None


async def _create(service: TokenService, caller: Caller, asked: NewTokenInput) -> TokenMade:
    check_storable(asked.name)
    token, secret = await service.create(
        kind=TokenKind(asked.kind),
        name=asked.name,
        lifetime=timedelta(days=asked.days),
        actor=caller.subject,
    )
    return TokenMade(**_facts(service, token), token=secret)


async def _revoke(service: TokenService, caller: Caller, asked: TokenInput) -> TokenOut:
    return TokenOut(**_facts(service, await service.revoke(asked.id, actor=caller.subject)))


async def _who_am_i(_service: TokenService, caller: Caller, _asked: Nothing) -> WhoAmI:
    return WhoAmI(
        subject=caller.subject,
        kind=kind_of(caller),
        scopes=sorted(caller.scopes),
        agent_id=caller.agent_id,
        run_id=caller.run_id,
    )


def _facts(service: TokenService, token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "kind": token.kind,
        "name": token.name,
        "subject": token.subject,
        "scopes": sorted(token.scopes),
        "agent_id": token.agent_id,
        "run_id": token.run_id,
        "created_by": token.created_by,
        "created_at": iso(token.created_at),
        "expires_at": iso(token.expires_at),
        "last_used_at": None if token.last_used_at is None else iso(token.last_used_at),
        "revoked_at": None if token.revoked_at is None else iso(token.revoked_at),
        "holds": token.holds(service.clock.now()),
    }


TOKENS: tuple[Operation[TokenService, Any, Any], ...] = (
    Operation(
        name="tokens.list",
        summary="The tokens that let somebody in, the newest first, without their secrets",
        part="tokens",
        method="GET",
        path=_PATH,
        scope=Scope.OPERATE,
        input=TokensInput,
        answer=list[TokenOut],
        handler=_list,
        tags=("tokens",),
        next_page=_next_page,
        mcp=_NOT_FOR_AGENTS,
    ),
    Operation(
        name="tokens.create",
        summary="A new operator's or read-only token, told once",
        part="tokens",
        method="POST",
        path=_PATH,
        scope=Scope.OPERATE,
        input=NewTokenInput,
        answer=TokenMade,
        handler=_create,
        status=201,
        tags=("tokens",),
        mcp=_NOT_FOR_AGENTS,
    ),
    Operation(
        name="tokens.self",
        summary="Who the token of this request belongs to, and what it allows",
        part="tokens",
        method="GET",
        path=f"{_PATH}/self",
        scope=None,
        input=Nothing,
        answer=WhoAmI,
        handler=_who_am_i,
        tags=("tokens",),
        mcp=McpTool("whoami", "Show as whom you speak here, and what you may do.", read_only=True),
    ),
    Operation(
        name="tokens.revoke",
        summary="End a token; what it opened is closed at once",
        part="tokens",
        method="DELETE",
        path=f"{_PATH}/{{id}}",
        scope=Scope.OPERATE,
        input=TokenInput,
        answer=TokenOut,
        handler=_revoke,
        tags=("tokens",),
        mcp=_NOT_FOR_AGENTS,
    ),
)
