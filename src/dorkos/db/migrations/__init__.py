"""Numbered revisions, each applied once and in order by `dorkos.db.migrate`.

A revision is one file `NNNN_name.py` with `def upgrade(step: Step) -> None`. It holds its own frozen
table definitions (`dorkos.db.types` is all it takes from the schema), rebuilds tables with
`dorkos.db.rebuild`, and declares `LOSS = "reason"` if it destroys anything. When it lands, its line is
added to `ledger.lock`; `dorkos db check` prints that line, and refuses every later edit of the file.
"""
