"""The topology as a graph library takes it: nodes in their namespaces, edges that say what they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def graph(topology: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Elements to draw. An address that is no agent's, such as a person's, is a node of its own."""
    elements: list[dict[str, Any]] = []
    known: dict[str, str] = {}
    for namespace in topology["namespaces"]:
        group = f"namespace:{namespace['namespace']}"
        elements.append({"data": {"id": group, "label": namespace["namespace"], "kind": "namespace"}})
        for agent in namespace["agents"]:
            known[agent["relaySubject"]] = agent["id"]
            data = {
                "id": agent["id"],
                "label": agent["name"],
                "parent": group,
                "kind": "agent",
                "health": agent["health"],
            }
            elements.append({"data": data})
    for number, edge in enumerate(topology["edges"]):
        ends = [_end(edge[side], known, elements) for side in ("source", "target")]
        label = f"{edge['messages']}" if edge["kind"] == "traffic" else edge["action"]
        data = {"id": f"edge:{number}", "source": ends[0], "target": ends[1], "label": label}
        kind = "traffic" if edge["kind"] == "traffic" else edge["action"]
        elements.append({"data": {**data, "kind": kind, "stopped": edge["stopped"] or 0}})
    return elements


def _end(address: str, known: dict[str, str], elements: list[dict[str, Any]]) -> str:
    """The node of an address; a pattern for a whole namespace is the namespace itself."""
    if address in known:
        return known[address]
    words = address.split(".")
    group = f"namespace:{words[2]}" if words[:2] == ["relay", "agent"] and len(words) > 2 else ""
    if words[-1] in (">", "*") and any(each["data"]["id"] == group for each in elements):
        return group
    known[address] = f"address:{address}"
    elements.append({"data": {"id": known[address], "label": address, "kind": "address"}})
    return known[address]
