"""The objects of the wire of DorkOS for Node, field by field."""

from __future__ import annotations

from typing import Any

from tests.e2e.contract import MapOf, Some, iso, ulid

# Errors: a client shows `error` to a person, so it is always a text. Details are in this one form.
ERROR = {"error": str, "code": str}
INVALID = {
    "error": "Validation failed",
    "code": "validation_failed",
    "details": {"formErrors": Some(str), "fieldErrors": MapOf([str])},
}
SUCCESS = {"success": True}
OK = {"ok": True}

# Pulse.
SCHEDULE = {
    "id": ulid,
    "name": str,
    "prompt": str,
    "cron": str,
    "timezone": (str, None),
    "cwd": (str, None),
    "enabled": bool,
    "maxRuntime": (int, None),
    "permissionMode": {"default", "plan", "acceptEdits", "bypassPermissions"},
    "status": {"active", "paused", "pending_approval"},
    "createdAt": iso,
    "updatedAt": iso,
    "nextRun": (iso, None),
}
RUN = {
    "id": ulid,
    "scheduleId": ulid,
    "status": {"running", "completed", "failed", "cancelled"},
    "startedAt": (iso, None),
    "finishedAt": (iso, None),
    "durationMs": (int, None),
    "outputSummary": (str, None),
    "error": (str, None),
    "sessionId": (str, None),
    "trigger": {"scheduled", "manual"},
    "createdAt": iso,
}

# Relay. The lineage's rows held no sender and no payload, which its client read all the same.
BUDGET = {
    "hopCount": int,
    "maxHops": int,
    "ancestorChain": Some(str),
    "ttl": int,
    "callBudgetRemaining": int,
}
ENVELOPE = {
    "id": ulid,
    "subject": str,
    "from": str,
    "replyTo?": str,
    "budget": BUDGET,
    "createdAt": iso,
    "payload": Any,
}
SIGNAL = {
    "type": "backpressure",
    "state": {"warning", "critical"},
    "endpointSubject": str,
    "timestamp": iso,
    "data": {"pressure": (float, int), "currentSize": int},
}
_DELIVERY_STATUS = {"pending", "delivered", "failed"}
_ROW = {"id": ulid, "subject": str, "status": _DELIVERY_STATUS, "createdAt": iso, "expiresAt": (iso, None)}
MESSAGE = {**_ROW, **ENVELOPE}
INBOX_ROW = {**_ROW, **ENVELOPE, "endpointHash": str}
ENDPOINT = {"subject": str, "hash": str, "registeredAt": iso}
RECEIPT = {
    "messageId": ulid,
    "deliveredTo": int,
    "rejected?": [{"endpointHash": str, "reason": str}],
    "mailboxPressure?": MapOf(float),
}
DEAD_LETTER = {"messageId": ulid, "endpointHash": str, "reason": str, "failedAt": iso, "envelope": ENVELOPE}
ADAPTER = {
    "config": {"id": str, "type": str, "enabled": bool, "config": dict},
    "status": {
        "state": {"connected", "disconnected", "error", "starting", "stopping"},
        "messageCount": {"inbound": int, "outbound": int},
        "errorCount": int,
        "lastError?": str,
        "lastErrorAt?": iso,
        "startedAt?": iso,
        "displayName": str,
        "id": str,
        "type": str,
    },
}
SPAN = {
    "id": ulid,
    "messageId": ulid,
    "traceId": str,
    "subject": str,
    "status": {"sent", "delivered", "failed", "timeout"},
    "sentAt": iso,
    "deliveredAt": (iso, None),
    "processedAt": (iso, None),
    "errorMessage": (str, None),
    "metadata": Any,
}
DELIVERY_METRICS = {
    "totalMessages": int,
    "deliveredCount": int,
    "failedCount": int,
    "deadLetteredCount": int,
    "activeEndpoints": int,
    "avgDeliveryLatencyMs": (float, None),
    "p95DeliveryLatencyMs": (float, None),
    "budgetRejections": {"hopLimit": int, "ttlExpired": int, "cycleDetected": int, "budgetExhausted": int},
}

# Mesh.
_RUNTIME = {"claude-code", "cursor", "codex", "other"}
HEALTH_WORD = {"active", "inactive", "stale"}
MANIFEST = {
    "id": ulid,
    "name": str,
    "description": str,
    "runtime": _RUNTIME,
    "capabilities": Some(str),
    "behavior": {
        "responseMode": {"always", "direct-only", "mention-only", "silent"},
        "escalationThreshold?": float,
    },
    "budget": {"maxHopsPerMessage": int, "maxCallsPerHour": int},
    "namespace": str,
    "registeredAt": iso,
    "registeredBy": str,
}
OBSERVED = {
    **MANIFEST,
    "healthStatus": HEALTH_WORD,
    "lastSeenAt": (iso, None),
    "lastSeenEvent": (str, None),
}
HEALTH = {
    "agentId": ulid,
    "name": str,
    "status": HEALTH_WORD,
    "lastSeenAt": (iso, None),
    "lastSeenEvent": (str, None),
    "registeredAt": iso,
    "runtime": _RUNTIME,
    "capabilities": Some(str),
}
MESH_STATUS = {
    "totalAgents": int,
    "activeCount": int,
    "inactiveCount": int,
    "staleCount": int,
    "byRuntime": MapOf(int),
    "byProject": MapOf(int),
}
TOPOLOGY = {
    "callerNamespace": str,
    "namespaces": [{"namespace": str, "agentCount": int, "agents": [MANIFEST]}],
    "accessRules": Some({"sourceNamespace": str, "targetNamespace": str, "action": {"allow", "deny"}}),
}
CANDIDATE = {
    "path": str,
    "strategy": str,
    "hints": {
        "suggestedName": str,
        "detectedRuntime": _RUNTIME,
        "inferredCapabilities?": [str],
        "description?": str,
    },
    "discoveredAt": iso,
}
DENIAL = {"path": str, "strategy": str, "reason?": str, "deniedBy": str, "deniedAt": iso}
INSPECT = {"agent": MANIFEST, "health": HEALTH, "relaySubject": (str, None)}

# The server and the folders that the client asks for at its start.
CONFIG = {
    "version": str,
    "latestVersion": (str, None),
    "port": int,
    "uptime": float,
    "workingDirectory": str,
    "boundary": str,
    "nodeVersion": str,
    "claudeCliPath": (str, None),
    "tunnel": {
        "enabled": bool,
        "connected": bool,
        "url": (str, None),
        "authEnabled": bool,
        "tokenConfigured": bool,
    },
    "pulse": {"enabled": bool},
    "relay": {"enabled": bool},
    "mesh": {"enabled": bool, "scanRoots": Some(str)},
}
DIRECTORY = {
    "path": str,
    "entries": [{"name": str, "path": str, "isDirectory": True}],
    "parent": (str, None),
}
GIT = {
    "branch": str,
    "ahead": int,
    "behind": int,
    "modified": int,
    "staged": int,
    "untracked": int,
    "conflicted": int,
    "clean": bool,
    "detached": bool,
    "tracking": (str, None),
}
COMMANDS = {
    "commands": [
        {
            "namespace": str,
            "command": str,
            "fullCommand": str,
            "description": str,
            "argumentHint?": str,
            "allowedTools?": [str],
            "filePath": str,
        }
    ],
    "lastScanned": iso,
}
SESSION = {
    "id": str,
    "title": str,
    "createdAt": iso,
    "updatedAt": iso,
    "lastMessagePreview?": str,
    "permissionMode": str,
    "model?": str,
    "contextTokens?": int,
    "cwd?": str,
}
HISTORY = {
    "messages": [
        {
            "id": str,
            "role": {"user", "assistant"},
            "content": str,
            "toolCalls?": list,
            "parts?": list,
            "timestamp?": str,
            "messageType?": {"command", "compaction"},
        }
    ]
}
