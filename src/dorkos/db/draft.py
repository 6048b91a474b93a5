"""Drafting the next migration from the difference between what the migrations lead to and the schema.

Alembic drafts, and does not see everything: changed CHECKs and predicates of partial indexes escape it,
and it writes what SQLite cannot do. So the draft is tried, and whatever is missing makes it refuse to run,
a stated reason for each danger to data included.
"""

from __future__ import annotations

import os
import re
import tempfile
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from dorkos.clock import SystemClock
from dorkos.db.connections import reading_sqlite
from dorkos.db.drift import Catalogue, catalogue, declared_sqlite, differences
from dorkos.db.ledger import MIGRATIONS, Revision, checksum, revisions
from dorkos.db.lint import problems
from dorkos.db.migrate import Plan, migrate_sqlite
from dorkos.db.replay import replay
from dorkos.db.schema.tables import metadata
from dorkos.errors import DorkError, ErrorCode

_MESSAGE_MAX = 80
_NAMES = ("the migrations", "the declared schema")
_TYPES = "dorkos.db.types"
# A migration is frozen: what a column holds may change its Python type later, and is text either way.
_FROZEN_AS = {"Json": "Text", "Choice": "Text"}


@dataclass(frozen=True, slots=True)
class Draft:
    """A migration file that was written. `missing` says what it does not do yet, in words."""

    path: Path
    differences: tuple[str, ...]
    missing: tuple[str, ...]


def draft_revision(
    message: str, *, empty: bool, directory: Path = MIGRATIONS, declared: sa.MetaData = metadata
) -> Draft:
    """Write the next numbered migration file into `directory`, which lies in a git checkout of DorkOS.

    `empty` allows a draft where nothing differs: for a migration of data. The file is new, is not entered
    into `ledger.lock`, and refuses to run as long as something is missing. Raises `usage` outside a
    checkout or where nothing differs, `validation_failed` for a message that makes no name, and what
    `migrate_sqlite` raises when the migrations that exist cannot be replayed.
    """
    _refuse_outside_checkout(directory)
    title, name = _title(message), _name(message)
    known = revisions(directory)
    with tempfile.TemporaryDirectory(prefix="dorkos-draft-") as folder:
        database = Path(folder) / "dork.db"
        _replay(database, directory)
        wanted = declared_sqlite(declared)
        different = differences(_catalogue(database), wanted, names=_NAMES)
        if not different and not empty:
            raise DorkError(
                ErrorCode.USAGE,
                "The migrations lead to the declared schema already: there is nothing to draft.",
                hint="Change the tables in src/dorkos/db/schema first. For a migration of data, add --empty.",
            )
        number = max((int(revision.id[:4]) for revision in known), default=-1) + 1
        path = directory / f"{number:04d}_{name}.py"
        body = _body(database, declared) if different else _Body((), ())
        missing = _missing(body, _text(title, body, ()), known, path.name, wanted) if different else []
    with path.open("x", encoding="utf-8", newline="\n") as file:
        file.write(_text(title, body, missing))
    return Draft(path, tuple(different), tuple(missing))


@dataclass(frozen=True, slots=True)
class _Body:
    """The lines of `upgrade`, and the names of our types that they use."""

    lines: tuple[str, ...]
    types: tuple[str, ...]


def _refuse_outside_checkout(directory: Path) -> None:
    # src/dorkos/db/migrations: an environment that lies in somebody's checkout has no src of ours.
    source, root = directory.parents[2], directory.parents[3]
    if source.name == "src" and (root / ".git").exists() and os.access(directory, os.W_OK):
        return
    raise DorkError(
        ErrorCode.USAGE,
        f"This DorkOS is not a git checkout that can be written: its migrations are in {directory}.",
        hint="Run the dorkos of a checkout, which is .venv/bin/dorkos after `make test`.",
    )


def _title(message: str) -> str:
    text = " ".join(message.split()).rstrip(".")
    if len(text) > _MESSAGE_MAX or not text.isprintable() or '"' in text or "\\" in text:
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"The message must have at most {_MESSAGE_MAX} characters, and no quotes or backslashes.",
            hint="Say the rest in the file, which is a draft.",
        )
    return f"{text[:1].upper()}{text[1:]}."


def _name(message: str) -> str:
    plain = unicodedata.normalize("NFKD", message).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "_", plain)[:40].strip("_")
    if not name:
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            "The message makes no file name: it has neither letters from a to z nor digits.",
            hint='Say what the migration does, such as -m "agents have colours".',
        )
    return name


def _replay(database: Path, directory: Path) -> None:
    # No tables declared: the runner then leaves the comparison to us.
    plan = Plan(directory, sa.MetaData())
    migrate_sqlite(database, backups=database.parent, clock=SystemClock(), plan=plan)


def _catalogue(database: Path) -> Catalogue:
    with reading_sqlite(database) as connection:
        return catalogue(connection)


def _body(database: Path, declared: sa.MetaData) -> _Body:
    from alembic.autogenerate import produce_migrations, render_python_code
    from alembic.autogenerate.api import AutogenContext
    from alembic.runtime.migration import MigrationContext

    used: set[str] = set()

    def render(kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
        if kind != "type" or type(item).__module__ != _TYPES:
            return False  # Alembic's own way.
        name = _FROZEN_AS.get(type(item).__name__, type(item).__name__)
        used.add(name)
        # Without the call that other types get: it is how the tables of this project are written.
        return name

    with reading_sqlite(database) as connection:
        context = MigrationContext.configure(connection, opts={"render_item": render})
        script = produce_migrations(context, declared)
        assert script.upgrade_ops is not None
        code = render_python_code(
            script.upgrade_ops,
            alembic_module_prefix="step.op.",
            render_item=render,
            migration_context=context,
        )
    # Without Alembic's own remarks, and with `pass` where it saw nothing.
    kept = "\n".join(line for line in code.splitlines() if not line.lstrip().startswith("# ###"))
    lines = textwrap.dedent(kept).strip().splitlines()
    return _Body(() if lines == ["pass"] else tuple(lines), tuple(sorted(used)))


def _missing(
    body: _Body, text: str, known: Sequence[Revision], file_name: str, wanted: Catalogue
) -> list[str]:
    """What still differs after the draft was applied to a fresh database, or why it cannot be applied."""
    with tempfile.TemporaryDirectory(prefix="dorkos-draft-") as folder:
        tried = Path(folder) / "migrations"
        tried.mkdir()
        for revision in known:
            (tried / revision.path.name).write_bytes(revision.path.read_bytes())
        path = tried / file_name
        path.write_text(text, encoding="utf-8")
        drafted = Revision(path.stem, path, checksum(path))
        try:
            before, after = replay(tried)[-2:]
        except DorkError as fault:
            return [fault.message, *problems(drafted, None, None)]
        found = [*differences(after, wanted, names=_NAMES), *problems(drafted, before, after)]
    if any("alter_column(" in line for line in body.lines):
        found.append(
            "older versions of SQLite cannot alter a column: rebuild the table with dorkos.db.rebuild"
        )
    return found


def _text(title: str, body: _Body, missing: Sequence[str]) -> str:
    lines = [f'"""{title}"""', "", "from __future__ import annotations", ""]
    if any("sa." in line for line in body.lines):
        lines += ["import sqlalchemy as sa", ""]
    lines += ["from dorkos.db.step import Step"]
    if body.types:
        lines += [f"from {_TYPES} import {', '.join(body.types)}"]
    lines += ["", "", "def upgrade(step: Step) -> None:", f'    """{title}"""']
    lines += [f"    {line}" if line else "" for line in body.lines]
    if missing:
        for text in missing:
            lines += textwrap.wrap(text, 100, initial_indent="    # Missing: ", subsequent_indent="    #   ")
        lines += ['    raise RuntimeError("this draft is not finished")']
    return "\n".join(lines) + "\n"
