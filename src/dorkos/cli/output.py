"""What a run prints, all of it or as it comes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dorkos.cli.connection import address
from dorkos.cli.follow import follow
from dorkos.cli.options import Options
from dorkos.cli.render import print_json, print_json_line, raw

if TYPE_CHECKING:
    from dorkos.cli.client import Client

_RUNS = "/api/pulse/runs"


def print_output(client: Client, options: Options, run_id: str) -> None:
    """Everything the run has printed so far; with --json one document that holds all chunks."""
    chunks = []
    for page in _pages(client, run_id):
        if options.json:
            chunks += page["chunks"]
        else:
            for chunk in page["chunks"]:
                _print_chunk(options, chunk)
    if options.json:
        print_json({"chunks": chunks})


def follow_output(client: Client, options: Options, run_id: str) -> None:
    """The same from the beginning until the run has ended; with --json one chunk a line."""
    for frame in follow(client, address(_RUNS, run_id, "output", "stream")):
        if frame.event == "output":
            _print_chunk(options, json.loads(frame.data))
        elif frame.event == "end":
            return


def _pages(client: Client, run_id: str) -> Iterator[Any]:
    after = 0
    while True:
        page = client.get(address(_RUNS, run_id, "output"), after=after, limit=500)
        yield page
        if page["final"] or not page["chunks"]:
            return
        after = page["nextSeq"]


def _print_chunk(options: Options, chunk: Mapping[str, Any]) -> None:
    if options.json:
        print_json_line(chunk)
    elif chunk["stream"] == "system":
        raw(f"[dorkos] {chunk['text'].rstrip()}\n", error=True)
    else:
        raw(chunk["text"], error=chunk["stream"] == "stderr")
