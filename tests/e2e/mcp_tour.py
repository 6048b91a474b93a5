"""A tour of every tool with real data, over whatever connection the client has."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mcp import Client

from dorkos.server.mcp.tools import tools_of
from dorkos.server.operations import OPERATIONS

TOOLS = tools_of(OPERATIONS)
_LIVE = {name for name, tool in TOOLS.items() if tool.operation.live}
_PARTS = {tool.operation.part for tool in TOOLS.values()}

_MAILBOX = "relay.human.kim"
_WAITS = [sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()"]


class Tour:
    """Calls each tool once or more, and looks at what it answers. A new tool gets its call here."""

    def __init__(self, client: Client, folder: Path) -> None:
        """`folder` lies within the boundary and is empty."""
        self._client = client
        self._folder = folder
        self.called: set[str] = set()

    async def call(self, name: str, /, **arguments: object) -> dict[str, Any]:
        """The answer: its structure is checked by the client against what the list promised."""
        result = await self._client.call_tool(name, arguments)
        [content] = result.content
        assert content.type == "text"
        assert not result.is_error, f"{name}: {content.text}"
        self.called.add(name)
        answer: dict[str, Any] = result.structured_content
        assert json.loads(content.text) == answer
        return answer

    async def refusal(self, name: str, /, **arguments: object) -> str:
        """The code of the refusal."""
        result = await self._client.call_tool(name, arguments)
        [content] = result.content
        assert result.is_error
        assert content.type == "text"
        code: str = json.loads(content.text)["code"]
        return code

    async def everything(self) -> None:
        """Every tool there is."""
        listed = await self._client.list_tools()
        assert {tool.name for tool in listed.tools} == set(TOOLS)
        await self._system()
        await self._relay()
        await self._mesh()
        await self._pulse()
        assert self.called == set(TOOLS), f"not called: {sorted(set(TOOLS) - self.called)}"

    async def a_few(self, *, live: bool) -> None:
        """The list, some tools of each part, and a refusal; without a server all that need one, too."""
        listed = await self._client.list_tools()
        assert {tool.name for tool in listed.tools} == set(TOOLS)
        for name in ("ping", "whoami", "get_fleet", "relay_reload_adapters"):
            await self.call(name)
        await self.call("get_session_count", cwd=str(self._folder))
        await self.call("relay_register_endpoint", subject=_MAILBOX)
        sent = await self.call("relay_send", subject=_MAILBOX, payload={"none": None})
        [taken] = (await self.call("relay_claim", subject=_MAILBOX))["deliveries"]
        assert taken["messageId"] == sent["messageId"]
        assert (await self.call("mesh_deny", path=str(self._folder), reason="Not that one"))["success"]
        assert await self.refusal("mesh_register", path=str(self._folder)) == "path_denied"
        created = await self.call("create_schedule", name="a", prompt="b", command=["true"])
        assert (await self.call("list_schedules"))["count"] == 1
        assert {TOOLS[name].operation.part for name in self.called} == _PARTS
        if not live:
            named: dict[str, dict[str, object]] = {
                "trigger_schedule": {"id": created["schedule"]["id"]},
                "relay_request": {"subject": _MAILBOX},
                "mesh_ping": {"agentId": "01JNA0000000000000000000AA"},
            }
            assert {name: await self.refusal(name, **named[name]) for name in _LIVE} == dict.fromkeys(
                _LIVE, "not_running"
            )

    async def _system(self) -> None:
        pong = await self.call("ping")
        assert (pong["status"], pong["server"]) == ("pong", "dorkos")
        assert (await self.call("get_session_count"))["count"] >= 0
        info = await self.call("get_server_info")
        assert info["product"] == "DorkOS"
        assert "uptime_seconds" not in info
        assert (await self.call("get_server_info", include_uptime=True))["uptime_seconds"] >= 0
        assert (await self.call("get_fleet"))["mode"] == "running"
        assert (await self.call("whoami"))["kind"] == "operator"
        counted = await self.call("get_session_count", cwd=str(self._folder))
        assert counted["count"] == 0

    async def _relay(self) -> None:
        opened = await self.call("relay_register_endpoint", subject=_MAILBOX, description="Kim reads it")
        assert (opened["endpoint"]["subject"], opened["note"]) == (_MAILBOX, "Kim reads it")
        endpoints = await self.call("relay_list_endpoints")
        assert _MAILBOX in [endpoint["subject"] for endpoint in endpoints["endpoints"]]
        assert endpoints["count"] == len(endpoints["endpoints"])
        sent = [
            await self.call("relay_send", subject=_MAILBOX, payload={"number": number, "none": None})
            for number in range(4)
        ]
        assert [receipt["deliveredTo"] for receipt in sent] == [1] * 4
        ids = [receipt["messageId"] for receipt in sent]
        page = await self.call("relay_inbox", endpoint_subject=_MAILBOX, limit=3, status="new")
        assert [message["id"] for message in page["messages"]] == ids[:0:-1]
        assert page["messages"][0]["payload"] == {"number": 3, "none": None}
        rest = await self.call("relay_inbox", endpoint_subject=_MAILBOX, cursor=page["nextCursor"])
        assert [message["id"] for message in rest["messages"]] == ids[:1]
        assert (await self.call("relay_list_messages", subject=_MAILBOX))["messages"][0]["id"] == ids[3]
        assert (await self.call("relay_get_message", id=ids[0]))["from"] == "relay.human.operator"

        claimed = (await self.call("relay_claim", subject=_MAILBOX, limit=3))["deliveries"]
        assert [delivery["messageId"] for delivery in claimed] == ids[:3]
        held = [
            {"subject": _MAILBOX, "messageId": delivery["messageId"], "leaseToken": delivery["leaseToken"]}
            for delivery in claimed
        ]
        assert (await self.call("relay_ack", **held[0]))["success"]
        assert (await self.call("relay_nack", **held[1], reject=True))["status"] == "failed"
        assert (await self.call("relay_extend", **held[2], leaseSeconds=600))["leaseExpiresAt"]
        dead = await self.call("relay_list_dead_letters")
        assert (dead["count"], dead["deadLetters"][0]["reason"]) == (1, "rejected")
        explained = await self.call("relay_explain", to=_MAILBOX)
        assert (explained["from"], explained["allowed"], explained["rule"]) == (
            "relay.human.operator",
            True,
            None,
        )
        await self._looking(ids)
        await self._adapters()
        await self._conversation()
        assert (await self.call("relay_unregister_endpoint", subject=_MAILBOX))["success"]
        assert await self.refusal("relay_claim", subject=_MAILBOX) == "endpoint_not_found"

    async def _looking(self, ids: list[str]) -> None:
        trace = await self.call("relay_get_trace", messageId=ids[0])
        assert trace["spans"][0]["messageId"] == ids[0]
        metrics = await self.call("relay_get_metrics")
        counts = [metrics[f"{state}Count"] for state in ("pending", "delivered", "failed", "deadLettered")]
        assert (metrics["totalMessages"], counts) == (4, [2, 1, 1, 1])
        # What was just sent is found once it is indexed; that it is found at all is shown elsewhere.
        assert isinstance((await self.call("relay_search", q="number"))["messages"], list)

    async def _adapters(self) -> None:
        """With one that is there where whoever runs the tour has made it; no tool makes one."""
        found = await self.call("relay_list_adapters")
        assert found["count"] == len(found["adapters"])
        for each in found["adapters"]:
            name = each["config"]["id"]
            for action in ("enable", "disable"):
                told = await self.call(f"relay_{action}_adapter", id=name)
                assert told == {"ok": True, "id": name, "action": f"{action}d"}
                [now] = (await self.call("relay_list_adapters"))["adapters"]
                assert now["config"]["enabled"] is (action == "enable")
        assert (await self.call("relay_reload_adapters"))["adapterCount"] == 0
        for action in ("enable", "disable"):
            assert await self.refusal(f"relay_{action}_adapter", id="none") == "adapter_not_found"

    async def _conversation(self) -> None:
        asked = await self.call("relay_request", subject=_MAILBOX, payload="Which one?")
        assert asked["state"] == "pending"
        *_, taken = (await self.call("relay_claim", subject=_MAILBOX, limit=10))["deliveries"]
        assert taken["messageId"] == asked["requestId"]
        assert (await self.call("relay_reply", id=taken["messageId"], payload="That one."))[
            "deliveredTo"
        ] == 1
        found = await self.call("relay_await_reply", id=asked["requestId"], waitMs=10_000)
        assert (found["state"], found["reply"]["payload"]) == ("replied", "That one.")

    async def _mesh(self) -> None:
        project = self._folder / "scout"
        (project / ".dork").mkdir(parents=True)
        manifest = {"name": "scout", "runtime": "command", "entrypoint": _WAITS}
        (project / ".dork" / "agent.json").write_text(json.dumps(manifest), encoding="utf-8")

        found = await self.call("mesh_discover", roots=[str(self._folder)], maxDepth=3)
        assert found["count"] == len(found["candidates"]) == 1
        agent = (await self.call("mesh_register", path=str(project), capabilities=["look"]))["agent"]
        assert (agent["name"], agent["capabilities"]) == ("scout", ["look"])
        listed = await self.call("mesh_list", capability="look")
        assert (listed["count"], listed["agents"][0]["id"]) == (1, agent["id"])
        assert (await self.call("mesh_inspect", agentId=agent["id"]))["relaySubject"] == agent["subject"]
        assert (await self.call("mesh_status"))["totalAgents"] == 1
        assert (await self.call("agent_get_current"))["agent"] is None  # The tour is a person's.
        topology = await self.call("mesh_query_topology")
        assert [each["agentCount"] for each in topology["namespaces"]] == [1]
        updated = await self.call("mesh_update", agentId=agent["id"], description="Looks around")
        assert updated["agent"]["description"] == "Looks around"
        ping = await self.call("mesh_ping", agentId=agent["id"], timeoutSeconds=1)
        assert not ping["answered"]
        gone = await self.call("mesh_unregister", agentId=agent["id"])
        assert gone == {"success": True, "agentId": agent["id"]}
        assert await self.refusal("mesh_inspect", agentId=agent["id"]) == "agent_not_found"
        assert await self.call("mesh_deny", path=str(project), reason="Not that one") == {
            "success": True,
            "path": str(project),
        }
        assert (await self.call("mesh_list_denied"))["count"] == 1
        assert await self.refusal("mesh_register", path=str(project)) == "path_denied"
        assert (await self.call("mesh_allow", path=str(project)))["success"]

    async def _pulse(self) -> None:
        created = await self.call(
            "create_schedule",
            name="wait",
            prompt="Wait.",
            cron="0 9 * * *",
            timezone="Europe/Berlin",
            cwd=str(self._folder),
            command=_WAITS,
        )
        schedule = created["schedule"]
        assert schedule["nextRuns"][0] in created["note"]
        assert (await self.call("list_schedules", enabled_only=True))["count"] == 1
        assert len((await self.call("preview_schedule", cron="@every 15m", count=3))["nextRuns"]) == 3
        changed = (await self.call("update_schedule", id=schedule["id"], enabled=False))["schedule"]
        assert (changed["enabled"], changed["nextRun"]) == (False, None)
        assert (await self.call("list_schedules", enabled_only=True))["count"] == 0
        assert (await self.call("list_schedules"))["schedules"][0]["id"] == schedule["id"]
        assert (await self.call("get_schedule", id=schedule["id"]))["schedule"]["prompt"] == "Wait."
        assert await self.call("list_slots", id=schedule["id"]) == {"slots": [], "count": 0}
        assert (await self.call("get_schedule_stats", id=schedule["id"]))["successRate"] is None
        assert (await self.call("list_missed"))["missed"] == []
        assert await self.call("list_approvals", status="pending") == {"approvals": [], "count": 0}
        await self.call("update_schedule", id=schedule["id"], status="pending_approval")
        [asked] = (await self.call("list_approvals"))["approvals"]
        shown = await self.call("get_approval", id=asked["id"])
        assert (shown["content"]["prompt"], len(shown["nextRuns"])) == ("Wait.", 5)
        await self.call("update_schedule", id=schedule["id"], status="active")
        await self._runs(schedule["id"])
        deleted = await self.call("delete_schedule", id=schedule["id"])
        assert deleted == {"success": True, "id": schedule["id"]}
        assert await self.refusal("get_schedule", id=schedule["id"]) == "schedule_not_found"

    async def _runs(self, schedule_id: str) -> None:
        run_id = (await self.call("trigger_schedule", id=schedule_id))["runId"]
        history = await self.call("get_run_history", schedule_id=schedule_id)
        assert (history["count"], history["runs"][0]["id"]) == (1, run_id)
        printed = ""
        while printed != "up\n":
            page = await self.call("get_run_output", id=run_id)
            printed = "".join(chunk["text"] for chunk in page["chunks"])
        assert (await self.call("get_run", id=run_id))["state"] == "running"
        assert (await self.call("cancel_run", id=run_id))["outcome"] == "stopping"
        while not (await self.call("get_run_output", id=run_id))["final"]:
            pass
        assert (await self.call("get_run", id=run_id))["state"] == "cancelled"
