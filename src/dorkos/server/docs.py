"""The page at `/api/docs`: the OpenAPI document to read, with nothing loaded from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8886; border-radius: .4rem; }
article { border-top: 1px solid #8886; padding: .5rem 0 1rem; }
h3 { margin: .5rem 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; } td { padding: .15rem 1rem .15rem 0; vertical-align: top; }
"""


def page(document: dict[str, Any]) -> str:
    """The whole document as one HTML page without scripts."""
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f"<p>{escape(document['info']['description'])} The same as data: "
        '<a href="/api/openapi.json">/api/openapi.json</a>. Every address but <code>/api/health</code> '
        "needs <code>Authorization: Bearer &lt;token&gt;</code>.</p>"
        f"{''.join(_operations(document['paths']))}"
        f"<h2>Shapes</h2>{''.join(_shapes(document['components']['schemas']))}"
        "</body></html>\n"
    )


def _operations(paths: dict[str, Any]) -> Iterator[str]:
    tags: dict[str, list[str]] = {}
    for path, entries in paths.items():
        for method, entry in entries.items():
            tags.setdefault(entry["tags"][0], []).append(_operation(method, path, entry))
    for tag, articles in tags.items():
        yield f"<h2>{escape(tag)}</h2>{''.join(articles)}"


def _operation(method: str, path: str, entry: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code></td><td>{escape(p['in'])}"
        f"{', required' if p['required'] else ''}</td><td>{escape(p.get('description', ''))}</td></tr>"
        for p in entry["parameters"]
    )
    parts = [
        f"<article><h3><code>{escape(method.upper())} {escape(path)}</code></h3>",
        f"<p>{escape(entry['summary'])}</p>",
        f"<table>{rows}</table>" if rows else "",
    ]
    if "requestBody" in entry:
        parts.append(f"<p>Body</p>{_schema(entry['requestBody']['content']['application/json']['schema'])}")
    for status, answer in entry["responses"].items():
        for kind, content in answer["content"].items():
            if status != "default":
                parts.append(f"<p>{escape(status)}, {escape(kind)}</p>{_schema(content['schema'])}")
    return "".join([*parts, "</article>"])


def _shapes(schemas: dict[str, Any]) -> Iterator[str]:
    for name, schema in schemas.items():
        yield f'<article><h3 id="{escape(name)}"><code>{escape(name)}</code></h3>{_schema(schema)}</article>'


def _schema(schema: object) -> str:
    return f"<pre>{escape(json.dumps(schema, indent=2, ensure_ascii=False))}</pre>"
