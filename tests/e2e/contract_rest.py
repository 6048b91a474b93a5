"""What DorkOS for Node answers over HTTP, as rows that are asked one after the other of one server."""

from __future__ import annotations

import sys

from tests.e2e.contract import MapOf, Row, Some, iso, ulid
from tests.e2e.contract_shapes import (
    ADAPTER,
    CANDIDATE,
    COMMANDS,
    CONFIG,
    DEAD_LETTER,
    DELIVERY_METRICS,
    DENIAL,
    DIRECTORY,
    ENDPOINT,
    ERROR,
    GIT,
    HEALTH,
    HISTORY,
    INBOX_ROW,
    INVALID,
    MANIFEST,
    MESH_STATUS,
    MESSAGE,
    OBSERVED,
    OK,
    RECEIPT,
    RUN,
    SCHEDULE,
    SESSION,
    SPAN,
    SUCCESS,
    TOPOLOGY,
)

_NOBODY = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
_WAITS = [sys.executable, "-c", "import signal; signal.pause()"]
_SCHEDULES, _RUNS = "/api/pulse/schedules", "/api/pulse/runs"
_MESSAGES, _ENDPOINTS, _ADAPTERS = "/api/relay/messages", "/api/relay/endpoints", "/api/relay/adapters"
_AGENTS = "/api/mesh/agents"
_KIM, _ELSEWHERE = "relay.human.kim", "relay.human.somebody.else"

_ONE_STATUS = "was {}: a code has one status on every surface, which this refusal shares with others like it."
_GROWN = "was 404 with the text `Run not found or not active`: a run that is over is there, and in conflict."

PULSE = (
    Row(f"GET {_SCHEDULES}", 200, Some(SCHEDULE)),
    Row(
        f"POST {_SCHEDULES}",
        201,
        SCHEDULE | {"status": "active", "enabled": True, "permissionMode": "acceptEdits", "maxRuntime": None},
        {"name": "nightly", "prompt": "Tidy.", "cron": "0 3 * * *", "command": _WAITS, "cwd": "{folder}"},
        keep="schedule",
    ),
    Row(
        f"POST {_SCHEDULES}",
        201,
        SCHEDULE | {"timezone": None, "maxRuntime": 600_000},
        {
            "name": "as the panel sends it",
            "prompt": "Tidy.",
            "cron": "0 3 * * *",
            "cwd": "{folder}",
            "permissionMode": "bypassPermissions",
            "maxRuntime": 600_000,
        },
    ),
    Row(f"POST {_SCHEDULES}", 400, INVALID, {"name": "", "prompt": "x", "cron": "0 3 * * *"}),
    Row(f"POST {_SCHEDULES}", 400, INVALID, {"name": "a"}),
    Row(f"POST {_SCHEDULES}", 400, ERROR, {"name": "a", "prompt": "b", "cron": "every day"}),
    Row(f"POST {_SCHEDULES}", 400, ERROR, {"name": "a", "prompt": "b", "cron": "@daily", "timezone": "Mars"}),
    Row(f"POST {_SCHEDULES}", 403, ERROR, {"name": "a", "prompt": "b", "cron": "@daily", "cwd": "/etc"}),
    Row(f"GET {_SCHEDULES}", 200, [SCHEDULE | {"nextRun": iso}]),
    Row(f"PATCH {_SCHEDULES}/{{schedule[id]}}", 200, SCHEDULE | {"nextRun": None}, {"enabled": False}),
    Row(f"PATCH {_SCHEDULES}/{{schedule[id]}}", 200, SCHEDULE, {"status": "active", "enabled": True}),
    Row(
        f"PATCH {_SCHEDULES}/{{schedule[id]}}",
        200,
        SCHEDULE | {"maxRuntime": 600_000},
        {"maxRuntime": 600_000},
    ),
    Row(f"PATCH {_SCHEDULES}/{{schedule[id]}}", 200, SCHEDULE, {}),
    Row(f"PATCH {_SCHEDULES}/{{schedule[id]}}", 403, ERROR, {"cwd": "/etc"}),
    Row(f"PATCH {_SCHEDULES}/{_NOBODY}", 400, INVALID, {"maxRuntime": -1}),
    Row(f"PATCH {_SCHEDULES}/{_NOBODY}", 404, ERROR, {"enabled": True}),
    Row(f"POST {_SCHEDULES}/{_NOBODY}/trigger", 404, ERROR),
    Row(f"POST {_SCHEDULES}/{{schedule[id]}}/trigger", 201, {"runId": ulid}, keep="triggered"),
    Row(f"GET {_RUNS}", 200, [RUN]),
    Row(f"GET {_RUNS}?scheduleId={{schedule[id]}}&status=running&limit=20&offset=0", 200, [RUN]),
    Row(f"GET {_RUNS}?scheduleId={_NOBODY}", 200, Some(RUN)),
    Row(f"GET {_RUNS}?limit=501", 400, INVALID),
    Row(f"GET {_RUNS}?limit=", 400, INVALID),
    Row(f"GET {_RUNS}?limit=1&limit=2", 400, ERROR),
    Row(f"GET {_RUNS}?status=nonsense", 400, INVALID),
    Row(f"GET {_RUNS}/{{triggered[runId]}}", 200, RUN | {"trigger": "manual"}),
    Row(f"GET {_RUNS}/{_NOBODY}", 404, ERROR),
    Row(f"POST {_RUNS}/{_NOBODY}/cancel", 404, ERROR),
    Row(f"POST {_RUNS}/{{triggered[runId]}}/cancel", 200, SUCCESS),
    Row(f"POST {_RUNS}/{{triggered[runId]}}/cancel", 409, ERROR, departs=_GROWN, patient=True),
    Row(f"GET {_RUNS}/{{triggered[runId]}}", 200, RUN | {"status": "cancelled", "finishedAt": iso}),
    Row(f"DELETE {_SCHEDULES}/{_NOBODY}", 404, ERROR),
    Row(f"DELETE {_SCHEDULES}/{{schedule[id]}}", 200, SUCCESS),
    Row(f"DELETE {_SCHEDULES}/{{schedule[id]}}", 404, ERROR),
)

_WEBHOOK = {
    "inbound": {"subject": _KIM, "secret": "0123456789abcdef"},
    "outbound": {"url": "https://example.org/hook", "secret": "0123456789abcdef"},
}

_HOOK = {"id": "hook", "type": "webhook"}
_HIDDEN = {"secret": "(stored)"}

RELAY = (
    Row(f"POST {_ENDPOINTS}", 201, ENDPOINT, {"subject": _KIM, "description": "Kim"}, keep="mailbox"),
    Row(f"POST {_ENDPOINTS}", 400, INVALID, {"subject": ["x"]}),
    Row(f"POST {_ENDPOINTS}", 409, ERROR, {"subject": _KIM}, departs=_ONE_STATUS.format(422)),
    Row(f"POST {_ENDPOINTS}", 400, ERROR, {"subject": "a..b"}, departs=_ONE_STATUS.format(422)),
    Row(f"POST {_ENDPOINTS}", 400, ERROR, {"subject": "a.*"}, departs=_ONE_STATUS.format(422)),
    Row(f"GET {_ENDPOINTS}", 200, [ENDPOINT], departs="`maildirPath` is gone: a mailbox is no folder."),
    Row(
        f"POST {_MESSAGES}",
        200,
        RECEIPT | {"deliveredTo": 1, "mailboxPressure": MapOf(float)},
        {
            "subject": _KIM,
            "payload": {"content": "hi"},
            "from": "relay.human.operator",
            "replyTo": "relay.human.lee",
            "budget": {"maxHops": 3, "callBudgetRemaining": 5},
        },
        keep="sent",
    ),
    Row(
        f"POST {_MESSAGES}",
        200,
        RECEIPT | {"deliveredTo": 0},
        {"subject": _ELSEWHERE, "payload": None, "from": "relay.human.lee"},
    ),
    Row(f"POST {_MESSAGES}", 400, INVALID, {"payload": 1}),
    Row(f"POST {_MESSAGES}", 400, INVALID, {"subject": _KIM, "payload": 1, "budget": {"maxHops": 0}}),
    Row(f"POST {_MESSAGES}", 400, ERROR, {"subject": "a..b", "payload": 1}, departs=_ONE_STATUS.format(422)),
    Row(f"GET {_MESSAGES}", 200, {"messages": [MESSAGE], "nextCursor?": str}),
    Row(f"GET {_MESSAGES}?limit=1&subject={_KIM}", 200, {"messages": [MESSAGE]}),
    Row(f"GET {_MESSAGES}?limit=1", 200, {"messages": [MESSAGE], "nextCursor": str}, keep="page"),
    Row(f"GET {_MESSAGES}?limit=1&cursor={{page[nextCursor]}}", 200, {"messages": [MESSAGE]}),
    Row(f"GET {_MESSAGES}?status=new", 200, {"messages": [MESSAGE | {"status": "pending"}]}),
    Row(f"GET {_MESSAGES}?status=failed", 200, {"messages": [MESSAGE | {"status": "failed"}]}),
    Row(f"GET {_MESSAGES}?status=seen", 400, INVALID),
    Row(f"GET {_MESSAGES}?limit=101", 400, INVALID),
    Row(f"GET {_MESSAGES}/{{sent[messageId]}}", 200, MESSAGE | {"replyTo": "relay.human.lee"}),
    Row(f"GET {_MESSAGES}/{_NOBODY}", 404, ERROR),
    Row(f"GET {_MESSAGES}/{{sent[messageId]}}/trace", 200, {"traceId": str, "spans": [SPAN]}),
    Row(f"GET {_MESSAGES}/{_NOBODY}/trace", 404, ERROR),
    Row(f"GET {_ENDPOINTS}/{_KIM}/inbox", 200, {"messages": [INBOX_ROW], "nextCursor?": str}),
    Row(f"GET {_ENDPOINTS}/{_KIM}/inbox?status=cur", 200, {"messages": Some(INBOX_ROW)}),
    Row(f"GET {_ENDPOINTS}/{_KIM}/inbox?limit=0", 400, INVALID),
    Row(f"GET {_ENDPOINTS}/{_ELSEWHERE}/inbox", 404, ERROR),
    Row("GET /api/relay/dead-letters", 200, [DEAD_LETTER]),
    Row("GET /api/relay/dead-letters?endpointHash={mailbox[hash]}", 200, Some(DEAD_LETTER)),
    Row("GET /api/relay/dead-letters?endpointHash=../x", 200, Some(DEAD_LETTER)),
    Row("GET /api/relay/trace/metrics", 200, DELIVERY_METRICS),
    Row(
        "GET /api/relay/metrics",
        200,
        {"totalMessages": int, "byStatus": MapOf(int), "bySubject": [{"subject": str, "count": int}]},
    ),
    Row(f"GET {_ADAPTERS}", 200, Some(ADAPTER)),
    Row(
        f"POST {_ADAPTERS}",
        201,
        ADAPTER,
        {"id": "hook", "type": "webhook", "enabled": False, "config": _WEBHOOK},
    ),
    Row(
        f"GET {_ADAPTERS}",
        200,
        [
            ADAPTER
            | {"config": {"config": {"inbound": {"secret": "(stored)"}, "outbound": {"secret": "(stored)"}}}}
        ],
        departs="secrets were shown in clear.",
    ),
    Row(f"GET {_ADAPTERS}/hook", 200, ADAPTER),
    Row(f"GET {_ADAPTERS}/none", 404, ERROR),
    Row(f"POST {_ADAPTERS}/hook/enable", 200, OK),
    Row(f"POST {_ADAPTERS}/hook/disable", 200, OK),
    Row(f"POST {_ADAPTERS}/none/enable", 404, ERROR, departs=_ONE_STATUS.format(400)),
    Row(f"POST {_ADAPTERS}/none/disable", 404, ERROR, departs=_ONE_STATUS.format(400)),
    Row(f"POST {_ADAPTERS}/reload", 200, OK),
    Row("POST /api/relay/webhooks/none", 404, ERROR, {}),
    Row("POST /api/relay/webhooks/hook", 404, ERROR, {}),
    Row(f"POST {_ADAPTERS}/hook/enable", 200, OK),
    Row("POST /api/relay/webhooks/hook", 401, ERROR, {}),
    Row(f"DELETE {_ENDPOINTS}/{_KIM}", 200, SUCCESS),
    Row(f"DELETE {_ENDPOINTS}/{_KIM}", 404, ERROR),
)

_NAMED = {"name": "Scout", "runtime": "claude-code", "namespace": "one"}
_PORTER = {"name": "Porter", "runtime": "codex", "namespace": "two", "behavior": {"escalationThreshold": 0.5}}
_RULE = {"sourceNamespace": "one", "targetNamespace": "two", "action": "allow"}
_STATED = "was 200: between namespaces that hold no agent a rule would wait for one of that name to come."

MESH = (
    Row(f"GET {_AGENTS}", 200, {"agents": Some(OBSERVED)}),
    Row("POST /api/mesh/discover", 200, {"candidates": [CANDIDATE]}, {"roots": ["{folder}"], "maxDepth": 3}),
    Row("POST /api/mesh/discover", 400, INVALID, {"roots": []}),
    Row("POST /api/mesh/discover", 400, INVALID, {"roots": ["{folder}"], "maxDepth": 1.5}),
    Row(f"POST {_AGENTS}", 201, MANIFEST, {"path": "{folder}/scout", "overrides": _NAMED}, keep="agent"),
    Row(f"POST {_AGENTS}", 400, INVALID, {}),
    Row(f"POST {_AGENTS}", 400, INVALID, {"path": "{folder}/scout", "overrides": None}),
    Row(f"POST {_AGENTS}", 400, INVALID, {"path": "{folder}/scout", "overrides": {"runtime": "none such"}}),
    Row(f"POST {_AGENTS}", 201, MANIFEST, {"path": "{folder}/porter", "overrides": _PORTER}),
    Row(f"GET {_AGENTS}", 200, {"agents": [OBSERVED]}),
    Row(f"GET {_AGENTS}?runtime=claude-code&capability=&callerNamespace=", 200, {"agents": [OBSERVED]}),
    Row(f"GET {_AGENTS}?runtime=cursor", 200, {"agents": Some(OBSERVED)}),
    Row(f"GET {_AGENTS}?runtime=nonsense", 400, INVALID),
    Row(f"GET {_AGENTS}/{{agent[id]}}", 200, MANIFEST),
    Row(f"GET {_AGENTS}/{_NOBODY}", 404, ERROR),
    Row(f"PATCH {_AGENTS}/{{agent[id]}}", 200, MANIFEST | {"name": "Scout 2"}, {"name": "Scout 2"}),
    Row(f"PATCH {_AGENTS}/{{agent[id]}}", 200, MANIFEST | {"runtime": "claude-code"}, {"runtime": "codex"}),
    Row(f"PATCH {_AGENTS}/{{agent[id]}}", 200, MANIFEST, {}),
    Row(f"PATCH {_AGENTS}/{_NOBODY}", 400, INVALID, {"name": ""}),
    Row(f"PATCH {_AGENTS}/{_NOBODY}", 404, ERROR, {"name": "x"}),
    Row(f"GET {_AGENTS}/{{agent[id]}}/access", 200, {"agents": Some(MANIFEST)}),
    Row(f"GET {_AGENTS}/{_NOBODY}/access", 404, ERROR),
    Row(f"GET {_AGENTS}/{{agent[id]}}/health", 200, HEALTH),
    Row(f"GET {_AGENTS}/{_NOBODY}/health", 404, ERROR),
    Row(f"POST {_AGENTS}/{{agent[id]}}/heartbeat", 200, SUCCESS),
    Row(f"POST {_AGENTS}/{{agent[id]}}/heartbeat", 200, SUCCESS, {"event": 7}),
    Row(
        f"GET {_AGENTS}/{{agent[id]}}/health", 200, HEALTH | {"lastSeenAt": iso, "lastSeenEvent": "heartbeat"}
    ),
    Row(f"POST {_AGENTS}/{_NOBODY}/heartbeat", 404, ERROR),
    Row("GET /api/mesh/status", 200, MESH_STATUS),
    Row("GET /api/mesh/topology", 200, TOPOLOGY | {"callerNamespace": "*"}),
    Row(
        "GET /api/mesh/topology?namespace=nobody",
        200,
        {"callerNamespace": "nobody", "namespaces": Some({}), "accessRules": Some({})},
    ),
    Row(
        "PUT /api/mesh/topology/access",
        200,
        _RULE,
        _RULE,
    ),
    Row(
        "PUT /api/mesh/topology/access",
        400,
        INVALID,
        {**_RULE, "sourceNamespace": ""},
    ),
    Row(
        "PUT /api/mesh/topology/access",
        400,
        INVALID,
        {**_RULE, "action": "ask"},
    ),
    Row(
        "PUT /api/mesh/topology/access",
        400,
        ERROR,
        {**_RULE, "targetNamespace": "none"},
        departs=_STATED,
    ),
    Row(
        "GET /api/mesh/topology",
        200,
        {"accessRules": [_RULE]},
    ),
    Row("POST /api/mesh/deny", 201, SUCCESS, {"path": "{folder}/no"}),
    Row("POST /api/mesh/deny", 201, SUCCESS, {"path": "{folder}/nor", "reason": "Not that"}),
    Row("POST /api/mesh/deny", 400, INVALID, {"path": ""}),
    Row("GET /api/mesh/denied", 200, {"denied": [DENIAL]}),
    Row("DELETE /api/mesh/denied/{quoted}%2Fno", 200, SUCCESS),
    Row(
        "DELETE /api/mesh/denied/{quoted}%2Fno",
        404,
        ERROR,
        departs="was 200 for a path that was never denied, so that a typing error looked like success.",
    ),
    Row(f"DELETE {_AGENTS}/{{agent[id]}}", 200, SUCCESS),
    Row(f"DELETE {_AGENTS}/{{agent[id]}}", 404, ERROR),
)

_ROOTS = {"scanRoots": [str]}
_PROJECT = "cwd={folder}"

SYSTEM = (
    Row("GET /api/health", 200, {"status": "ok", "version": str, "uptime": float}),
    Row("GET /api/config", 200, CONFIG),
    Row("PATCH /api/config", 200, {"success": True, "config": {"server": dict}}, {}),
    Row(
        "PATCH /api/config",
        200,
        {"success": True, "config": {"mesh": {"scanRoots": [str]}}},
        {"mesh": {"scanRoots": ["{folder}"]}},
    ),
    Row(
        "PATCH /api/config",
        400,
        {"error": "Validation failed", "details": [str]},
        {"server": {"port": 99_999_999}},
    ),
    Row("PATCH /api/config", 400, ERROR, [1]),
    Row("GET /api/directory", 200, DIRECTORY),
    Row("GET /api/directory?path={folder}&showHidden=true", 200, DIRECTORY | {"parent": str}),
    Row("GET /api/directory?path=", 400, ERROR),
    Row("GET /api/directory?path={folder}/none", 404, ERROR),
    Row("GET /api/directory?path={folder}/scout/CLAUDE.md", 400, {"error": "Not a directory"}),
    Row("GET /api/directory?path=/etc", 403, ERROR),
    Row("GET /api/directory/default", 200, {"path": str}),
    Row(f"GET /api/files?{_PROJECT}", 200, {"files": [str], "truncated": bool, "total": int}),
    Row("GET /api/files", 400, ERROR),
    Row("GET /api/git/status?dir={folder}", 200, GIT),
    Row("GET /api/git/status?dir={folder}/../plain", 200, {"error": "not_git_repo"}),
    Row(f"GET /api/commands?{_PROJECT}&refresh=true", 200, COMMANDS),
    Row(f"GET /api/sessions?{_PROJECT}", 200, [SESSION]),
    Row(f"GET /api/sessions/{{session}}?{_PROJECT}", 200, SESSION),
    Row(f"GET /api/sessions/{_NOBODY}?{_PROJECT}", 404, ERROR),
    Row(f"GET /api/sessions/{{session}}/messages?{_PROJECT}", 200, HISTORY),
    Row("GET /api/openapi.json", 200, {"openapi": "3.1.0", "info": {"title": str}, "paths": dict}),
    Row("GET /api/nothing", 404, ERROR),
)

_BROKEN = b'{"name": '
_MEANT = "was 500, and outside of `/api` an HTML page: what cannot be read is a fault of who sent it."

UNREADABLE = tuple(
    Row(call, 400, ERROR | {"code": "invalid_json"}, _BROKEN, departs=_MEANT)
    for call in (f"POST {_SCHEDULES}", f"POST {_MESSAGES}", f"POST {_AGENTS}", "PATCH /api/config")
)

REST: tuple[Row, ...] = (*PULSE, *RELAY, *MESH, *SYSTEM, *UNREADABLE)
