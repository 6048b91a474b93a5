"""What clients ask of project folders: the addresses and keys of DorkOS for Node."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import Field

from dorkos.clock import iso
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.operation import McpTool, Nothing, NoTool, Operation, Wire, left_out
from dorkos.vocabulary import Scope
from dorkos.workspace import commands, git, transcripts
from dorkos.workspace.directory import list_folders
from dorkos.workspace.files import list_files
from dorkos.workspace.place import Workspace

_NO_TOOL = NoTool("An agent looks into its own folder by itself.")


class DirectoryInput(Wire):
    """Which folder to look into."""

    path: str | None = Field(None, min_length=1, description="A folder inside the boundary; else its root.")
    show_hidden: bool = Field(False, description="Also folders whose name begins with a dot.")


class FolderEntry(Wire):
    """A folder in a folder."""

    name: str
    path: str
    is_directory: bool = True


class DirectoryOut(Wire):
    """The folders of a folder. `parent` is null at the edge of the boundary; at most 5,000 are shown."""

    path: str
    entries: list[FolderEntry]
    parent: str | None
    truncated: bool


class DefaultOut(Wire):
    """Where a client begins."""

    path: str


class ProjectInput(Wire):
    """Which project."""

    cwd: str = Field(min_length=1, description="A folder inside the boundary.")


class FilesOut(Wire):
    """The files of a project, relative to it. `truncated` says that there are more than are listed."""

    files: list[str]
    truncated: bool
    total: int


class GitInput(Wire):
    """Which folder."""

    dir: str | None = Field(None, min_length=1, description="A folder inside the boundary.")


class GitOut(Wire):
    """A working tree in numbers."""

    branch: str
    ahead: int
    behind: int
    modified: int
    staged: int
    untracked: int
    conflicted: int
    clean: bool
    detached: bool
    tracking: str | None


class NoRepository(Wire):
    """The folder lies in no working tree, or there is no git."""

    error: str = "not_git_repo"


class CommandsInput(Wire):
    """Which project. `refresh` is accepted and changes nothing: each answer is fresh."""

    cwd: str | None = Field(None, min_length=1, description="A folder inside the boundary.")
    refresh: bool = False


class CommandOut(Wire):
    """A slash command. `fullCommand` is what one types."""

    namespace: str
    command: str
    full_command: str
    description: str
    argument_hint: str | None = left_out()
    allowed_tools: list[str] | None = left_out()
    file_path: str


class CommandsOut(Wire):
    """The slash commands of a project, by name."""

    commands: list[CommandOut]
    last_scanned: str


class SessionsInput(Wire):
    """Which project."""

    cwd: str | None = Field(None, min_length=1, description="A folder inside the boundary.")


class SessionInput(SessionsInput):
    """Which session of which project."""

    id: str


class SessionOut(Wire):
    """A session of Claude Code, as its transcript tells it."""

    id: str
    title: str
    created_at: str
    updated_at: str
    last_message_preview: str | None = left_out()
    permission_mode: str
    model: str | None = left_out()
    context_tokens: int | None = left_out()
    cwd: str | None = left_out()


class HistoryMessage(Wire):
    """What one side said, in words."""

    id: str
    role: str
    content: str
    timestamp: str | None = left_out()


class HistoryOut(Wire):
    """The newest thousand messages of a session, in their order."""

    messages: list[HistoryMessage]


class SessionCount(Wire):
    """How many sessions a project has; `cwd` is its folder."""

    count: int
    cwd: str


async def _directory(part: Workspace, _caller: Caller, asked: DirectoryInput) -> DirectoryOut:
    def look() -> DirectoryOut:
        folder = part.boundary.root if asked.path is None else part.folder(asked.path)
        found = list_folders(folder, part.boundary, hidden=asked.show_hidden)
        return DirectoryOut(
            path=str(found.path),
            entries=[FolderEntry(name=path.name, path=str(path)) for path in found.entries],
            parent=None if found.parent is None else str(found.parent),
            truncated=found.truncated,
        )

    return await asyncio.to_thread(look)


async def _default(part: Workspace, _caller: Caller, _asked: Nothing) -> DefaultOut:
    return DefaultOut(path=str(part.default))


async def _files(part: Workspace, _caller: Caller, asked: ProjectInput) -> FilesOut:
    found = await asyncio.to_thread(lambda: list_files(part.folder(asked.cwd), part.boundary))
    return FilesOut(files=list(found.names), truncated=found.truncated, total=found.total)


async def _git(part: Workspace, _caller: Caller, asked: GitInput) -> GitOut | NoRepository:
    found = await asyncio.to_thread(lambda: git.status(part.folder(asked.dir), within=part.boundary.root))
    if found is None:
        return NoRepository()
    return GitOut(
        branch=found.branch,
        ahead=found.ahead,
        behind=found.behind,
        modified=found.modified,
        staged=found.staged,
        untracked=found.untracked,
        conflicted=found.conflicted,
        clean=found.clean,
        detached=found.detached,
        tracking=found.tracking,
    )


async def _commands(part: Workspace, _caller: Caller, asked: CommandsInput) -> CommandsOut:
    found = await asyncio.to_thread(lambda: commands.scan(part.folder(asked.cwd)))
    return CommandsOut(
        commands=[
            CommandOut(
                namespace=one.namespace,
                command=one.name,
                full_command=one.full,
                description=one.description,
                argument_hint=one.argument_hint,
                allowed_tools=None if one.allowed_tools is None else list(one.allowed_tools),
                file_path=str(one.path).encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
            )
            for one in found
        ],
        last_scanned=iso(part.clock.now()),
    )


async def _sessions(part: Workspace, _caller: Caller, asked: SessionsInput) -> list[SessionOut]:
    found = await asyncio.to_thread(lambda: transcripts.sessions(_project(part, asked)))
    return [_session_out(one) for one in found]


async def _session_count(part: Workspace, _caller: Caller, asked: SessionsInput) -> SessionCount:
    folder = part.folder(asked.cwd)
    found = await asyncio.to_thread(lambda: transcripts.sessions(_project(part, asked)))
    return SessionCount(count=len(found), cwd=str(folder))


async def _session(part: Workspace, _caller: Caller, asked: SessionInput) -> SessionOut:
    found = await asyncio.to_thread(lambda: transcripts.session(_project(part, asked), asked.id))
    if found is None:
        raise _no_session(asked.id)
    return _session_out(found)


async def _messages(part: Workspace, _caller: Caller, asked: SessionInput) -> HistoryOut:
    found = await asyncio.to_thread(lambda: transcripts.messages(_project(part, asked), asked.id))
    if found is None:
        raise _no_session(asked.id)
    return HistoryOut(
        messages=[
            HistoryMessage(id=one.id, role=one.role, content=one.content, timestamp=one.timestamp)
            for one in found
        ]
    )


def _project(part: Workspace, asked: SessionsInput) -> Any:
    return transcripts.project_folder(part.transcripts, part.folder(asked.cwd))


def _session_out(one: transcripts.Session) -> SessionOut:
    return SessionOut(
        id=one.id,
        title=one.title,
        created_at=one.created_at,
        updated_at=one.updated_at,
        last_message_preview=one.preview,
        permission_mode=one.permission_mode,
        model=one.model,
        context_tokens=one.context_tokens,
        cwd=one.cwd,
    )


def _no_session(session_id: str) -> DorkError:
    return DorkError(
        ErrorCode.NOT_FOUND,
        "Session not found",
        hint=f"Claude Code keeps no transcript {session_id[:100]!r} of this project.",
    )


def _get(
    name: str,
    summary: str,
    path: str,
    shapes: tuple[Any, Any],
    handler: Any,
    *,
    tool: McpTool | NoTool = _NO_TOOL,
) -> Operation[Any, Any, Any]:
    return Operation(
        name=f"workspace.{name}",
        summary=summary,
        part="workspace",
        method="GET",
        path=path,
        scope=Scope.OBSERVE,
        input=shapes[0],
        answer=shapes[1],
        handler=handler,
        mcp=tool,
    )


OPERATIONS: tuple[Operation[Workspace, Any, Any], ...] = (
    _get(
        "directory", "The folders in a folder", "/api/directory", (DirectoryInput, DirectoryOut), _directory
    ),
    _get(
        "default",
        "The folder that a client begins with",
        "/api/directory/default",
        (Nothing, DefaultOut),
        _default,
    ),
    _get("files", "The files of a project", "/api/files", (ProjectInput, FilesOut), _files),
    _get("git", "The state of a working tree", "/api/git/status", (GitInput, GitOut | NoRepository), _git),
    _get(
        "commands",
        "The slash commands of a project",
        "/api/commands",
        (CommandsInput, CommandsOut),
        _commands,
    ),
    _get(
        "sessions",
        "The sessions of Claude Code in a project, the last one changed first",
        "/api/sessions",
        (SessionsInput, list[SessionOut]),
        _sessions,
    ),
    _get(
        "session_count",
        "How many sessions of Claude Code a project has",
        "/api/sessions/count",
        (SessionsInput, SessionCount),
        _session_count,
        tool=McpTool("get_session_count", "Count the sessions of Claude Code in a project.", read_only=True),
    ),
    _get("session", "One session of Claude Code", "/api/sessions/{id}", (SessionInput, SessionOut), _session),
    _get(
        "messages",
        "What was said in a session of Claude Code",
        "/api/sessions/{id}/messages",
        (SessionInput, HistoryOut),
        _messages,
    ),
)
