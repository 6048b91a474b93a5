"""Whether declared schema, migrations and `ledger.lock` agree. Looks at the code only, changes nothing.

`ledger.lock` is committed beside the migrations: one line `id sha256` for each that landed. Whoever adds
a migration adds its line, which the complaint about its absence spells out; whoever changes one
afterwards is found out in any clean checkout, without a database that remembers. What a migration does
to data is judged by `dorkos.db.lint`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import sqlalchemy as sa

from dorkos.db.drift import Catalogue, declared_sqlite, differences
from dorkos.db.ledger import LOCK_FILE, MIGRATIONS, Revision, read_lock, revisions
from dorkos.db.lint import problems, sentence
from dorkos.db.replay import replay
from dorkos.db.schema.tables import metadata
from dorkos.errors import DorkError


def check(directory: Path = MIGRATIONS, declared: sa.MetaData = metadata) -> list[str]:
    """Every problem in words; an empty list is the affirmation that all checks ran and passed."""
    known = revisions(directory)
    return [
        *_numbering(known),
        *_lock_problems(directory, known),
        *_replay_problems(directory, known, declared),
    ]


def _numbering(known: Sequence[Revision]) -> list[str]:
    if not known:
        return ["there are no migrations"]
    numbers = Counter(revision.id[:4] for revision in known)
    shared = [number for number, count in sorted(numbers.items()) if count > 1]
    if shared:
        return [
            f"migrations {' and '.join(revision.id for revision in known if revision.id[:4] == number)} have "
            "one number: two branches met; give the one that did not land the next free number"
            for number in shared
        ]
    return [
        f"migration {revision.id}: its number should be {number:04d}; numbers rise by one without gaps"
        for number, revision in enumerate(known)
        if int(revision.id[:4]) != number
    ]


def _lock_problems(directory: Path, known: tuple[Revision, ...]) -> list[str]:
    try:
        landed = read_lock(directory)
    except OSError as fault:
        return [f"{LOCK_FILE} cannot be read: {fault.strerror}"]
    checksums = dict(landed)
    ids = [revision.id for revision in known]
    gone = [name for name in checksums if name not in ids]
    found = [f"migration {name} is in {LOCK_FILE} but its file is gone" for name in gone]
    for revision in known:
        if revision.id not in checksums:
            found.append(
                f"migration {revision.id} is not in {LOCK_FILE}; add the line: "
                f"{revision.id} {revision.checksum}"
            )
        elif checksums[revision.id] != revision.checksum:
            found.append(f"migration {revision.id} {sentence('D008')}")
    order = [name for name, _ in landed]
    if order != sorted(set(order)):
        found.append(f"{LOCK_FILE} must name each migration once, in order")
    return found


def _replay_problems(directory: Path, known: Sequence[Revision], declared: sa.MetaData) -> list[str]:
    """What each migration does to data, and how what they lead to differs from the declaration."""
    try:
        catalogues: Sequence[Catalogue | None] = replay(directory)
    except DorkError as fault:
        return [*_dangers(known, ()), f"the migrations cannot be replayed: {fault.message}"]
    names = ("the migrations", "the declared schema")
    different = differences(catalogues[-1] or {}, declared_sqlite(declared), names=names)
    return [*_dangers(known, catalogues), *different]


def _dangers(known: Sequence[Revision], catalogues: Sequence[Catalogue | None]) -> list[str]:
    around = list(pairwise(catalogues)) or [(None, None)] * len(known)
    return [
        problem
        for revision, (before, after) in zip(known, around, strict=True)
        for problem in problems(revision, before, after)
    ]
