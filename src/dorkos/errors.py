"""The closed set of error codes, and the one exception that carries them.

Each code maps once to an HTTP status and to a process exit code. Whatever is not a `DorkError` is a
fault of ours: the outside sees `internal_error`, the log sees the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class ErrorCode(StrEnum):
    """Machine-readable reasons. The values are part of the public interface and are never reused."""

    VALIDATION_FAILED = "validation_failed"
    INVALID_JSON = "invalid_json"
    INVALID_TEXT = "invalid_text"
    INVALID_CRON = "invalid_cron"
    INVALID_TIMEZONE = "invalid_timezone"
    INVALID_INSTANT = "invalid_instant"
    INVALID_SUBJECT = "invalid_subject"
    INVALID_MANIFEST = "invalid_manifest"
    INVALID_CURSOR = "invalid_cursor"
    INVALID_SETTING = "invalid_setting"
    WILDCARD_NOT_ALLOWED = "wildcard_not_allowed"
    BODY_TOO_LARGE = "body_too_large"
    HEADERS_TOO_LARGE = "headers_too_large"
    MESSAGE_TOO_LARGE = "message_too_large"
    NOT_DELIVERED = "not_delivered"
    SECRET_UNAVAILABLE = "secret_unavailable"
    USAGE = "usage"

    TOKEN_MISSING = "token_missing"
    TOKEN_INVALID = "token_invalid"
    LINK_INVALID = "link_invalid"
    FORBIDDEN = "forbidden"
    SENDER_MISMATCH = "sender_mismatch"
    SIGNATURE_INVALID = "signature_invalid"
    HOST_NOT_ALLOWED = "host_not_allowed"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    OUTSIDE_BOUNDARY = "outside_boundary"
    PATH_DENIED = "path_denied"

    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    SCHEDULE_NOT_FOUND = "schedule_not_found"
    RUN_NOT_FOUND = "run_not_found"
    ENDPOINT_NOT_FOUND = "endpoint_not_found"
    MESSAGE_NOT_FOUND = "message_not_found"
    DELIVERY_NOT_FOUND = "delivery_not_found"
    AGENT_NOT_FOUND = "agent_not_found"
    DENIAL_NOT_FOUND = "denial_not_found"
    RULE_NOT_FOUND = "rule_not_found"
    TOKEN_NOT_FOUND = "token_not_found"
    SESSION_NOT_FOUND = "session_not_found"
    ADAPTER_NOT_FOUND = "adapter_not_found"

    ENDPOINT_EXISTS = "endpoint_exists"
    AGENT_EXISTS = "agent_exists"
    ADAPTER_EXISTS = "adapter_exists"
    LEASE_LOST = "lease_lost"
    RUN_NOT_ACTIVE = "run_not_active"
    CONFLICT = "conflict"
    TRACE_NOT_FOUND = "trace_not_found"
    DEAD_LETTER_NOT_FOUND = "dead_letter_not_found"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    REASON_REQUIRED = "reason_required"
    APPROVAL_NOT_FOUND = "approval_not_found"
    APPROVAL_DECIDED = "approval_decided"
    APPROVAL_SUPERSEDED = "approval_superseded"
    FLEET_ON_HOLD = "fleet_on_hold"

    TOO_MANY_STREAMS = "too_many_streams"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    TOO_MANY_FAILURES = "too_many_failures"
    TOO_MANY_PROPOSALS = "too_many_proposals"
    EXPOSURE_REFUSED = "exposure_refused"

    NOT_RUNNING = "not_running"
    HOME_LOCKED = "home_locked"
    HOME_UNWRITABLE = "home_unwritable"
    PORT_IN_USE = "port_in_use"
    NOT_READY = "not_ready"
    REQUEST_TIMEOUT = "request_timeout"
    SHUTTING_DOWN = "shutting_down"

    DATABASE_NEWER = "database_newer"
    DATABASE_FOREIGN = "database_foreign"
    DATABASE_LINEAGE = "database_lineage"
    DATABASE_CORRUPT = "database_corrupt"
    DATABASE_DRIFT = "database_drift"
    DATABASE_BUSY = "database_busy"
    DATABASE_READONLY = "database_readonly"
    DATABASE_UNREACHABLE = "database_unreachable"
    DISK_FULL = "disk_full"
    MIGRATION_CHANGED = "migration_changed"
    MIGRATION_MISSING = "migration_missing"
    MIGRATION_FAILED = "migration_failed"
    SNAPSHOT_FAILED = "snapshot_failed"
    DRIVER_MISSING = "driver_missing"
    OUTCOME_UNKNOWN = "outcome_unknown"
    BACKUP_FAILED = "backup_failed"
    RESTORE_FAILED = "restore_failed"
    NETWORK_FILESYSTEM = "network_filesystem"

    TARGET_NOT_EMPTY = "target_not_empty"
    MOVE_UNFINISHED = "move_unfinished"
    IMPORT_INVALID = "import_invalid"
    EXPORT_FAILED = "export_failed"
    TRANSFER_FAILED = "transfer_failed"

    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """What a code means to each surface. `meaning` is the sentence shown in the reference."""

    http_status: int
    exit_code: int
    meaning: str


# Exit codes group the codes by what a script would do next: 2 mend the call, 3 it does not exist,
# 4 somebody else holds it or changed it, 5 get other credentials, 6 start or free something,
# 7 look at the database, 70 report a fault.
ERRORS: Mapping[ErrorCode, ErrorRow] = {
    ErrorCode.VALIDATION_FAILED: ErrorRow(400, 2, "A field is missing or has a value that is not allowed."),
    ErrorCode.INVALID_JSON: ErrorRow(
        400, 2, "The body is not JSON, not a JSON object, or nested too deeply."
    ),
    ErrorCode.INVALID_TEXT: ErrorRow(
        400, 2, "A text holds U+0000 or a lone surrogate, or a number is NaN, infinite or beyond 64 bits."
    ),
    ErrorCode.INVALID_CRON: ErrorRow(400, 2, "The cron expression cannot be read or can never be due."),
    ErrorCode.INVALID_TIMEZONE: ErrorRow(400, 2, "The time zone is not an IANA zone name."),
    ErrorCode.INVALID_INSTANT: ErrorRow(
        400, 2, "The instant is not an ISO 8601 date-time with a zone, or lies in the past."
    ),
    ErrorCode.INVALID_SUBJECT: ErrorRow(400, 2, "The subject does not follow the subject grammar."),
    ErrorCode.INVALID_MANIFEST: ErrorRow(422, 2, "The agent manifest on disk cannot be read as a manifest."),
    ErrorCode.INVALID_CURSOR: ErrorRow(400, 2, "The cursor was not given out by this server."),
    ErrorCode.INVALID_SETTING: ErrorRow(
        400, 2, "A setting has a value that is not allowed; the message names its source."
    ),
    ErrorCode.WILDCARD_NOT_ALLOWED: ErrorRow(
        400, 2, "A message is published to one exact subject, never to a pattern."
    ),
    ErrorCode.BODY_TOO_LARGE: ErrorRow(413, 2, "The request body is larger than the server accepts."),
    ErrorCode.HEADERS_TOO_LARGE: ErrorRow(
        431, 2, "The address and the headers of the request are longer than 64 KiB together."
    ),
    ErrorCode.MESSAGE_TOO_LARGE: ErrorRow(
        413, 2, "The message payload is larger than `relay.maxMessageBytes`."
    ),
    ErrorCode.USAGE: ErrorRow(400, 2, "The command line cannot be understood."),
    ErrorCode.TOKEN_MISSING: ErrorRow(401, 5, "The request carries no token."),
    ErrorCode.TOKEN_INVALID: ErrorRow(401, 5, "The token is unknown, expired or revoked."),
    ErrorCode.LINK_INVALID: ErrorRow(
        401, 5, "The login link was used already, has expired, or is unknown; ask for a new one."
    ),
    ErrorCode.FORBIDDEN: ErrorRow(403, 5, "The token is valid but does not allow this operation."),
    ErrorCode.SENDER_MISMATCH: ErrorRow(403, 5, "`from` names a sender other than the token's subject."),
    ErrorCode.HOST_NOT_ALLOWED: ErrorRow(403, 5, "The Host header names a host this server does not serve."),
    ErrorCode.ORIGIN_NOT_ALLOWED: ErrorRow(403, 5, "The request comes from a page of another origin."),
    ErrorCode.OUTSIDE_BOUNDARY: ErrorRow(
        403, 5, "The path lies outside the directory boundary, or in the data directory."
    ),
    ErrorCode.PATH_DENIED: ErrorRow(403, 5, "The path was denied; lift the denial first."),
    ErrorCode.NOT_FOUND: ErrorRow(404, 3, "There is nothing at this address."),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorRow(405, 2, "The address exists but does not take this method."),
    ErrorCode.SCHEDULE_NOT_FOUND: ErrorRow(404, 3, "No schedule has this id."),
    ErrorCode.RUN_NOT_FOUND: ErrorRow(404, 3, "No run has this id."),
    ErrorCode.ENDPOINT_NOT_FOUND: ErrorRow(404, 3, "No endpoint has this subject."),
    ErrorCode.MESSAGE_NOT_FOUND: ErrorRow(404, 3, "No message has this id."),
    ErrorCode.TRACE_NOT_FOUND: ErrorRow(404, 3, "No trace of this message or chain is kept."),
    ErrorCode.DEAD_LETTER_NOT_FOUND: ErrorRow(404, 3, "No dead letter has this id."),
    ErrorCode.DELIVERY_NOT_FOUND: ErrorRow(404, 3, "No delivery of this message is in this mailbox."),
    ErrorCode.AGENT_NOT_FOUND: ErrorRow(404, 3, "No agent has this id."),
    ErrorCode.DENIAL_NOT_FOUND: ErrorRow(404, 3, "This path is not denied."),
    ErrorCode.RULE_NOT_FOUND: ErrorRow(404, 3, "No access rule has this id."),
    ErrorCode.TOKEN_NOT_FOUND: ErrorRow(404, 3, "No token that is valid has this id."),
    ErrorCode.SESSION_NOT_FOUND: ErrorRow(404, 3, "No open browser session has this id."),
    ErrorCode.ENDPOINT_EXISTS: ErrorRow(409, 4, "An endpoint with this subject exists already."),
    ErrorCode.ADAPTER_NOT_FOUND: ErrorRow(
        404, 3, "No adapter has this id, or it is switched off or of another kind."
    ),
    ErrorCode.ADAPTER_EXISTS: ErrorRow(409, 4, "An adapter with this id exists already."),
    ErrorCode.SIGNATURE_INVALID: ErrorRow(
        401, 5, "A request to a webhook is not signed as it should be, is too old, or came before."
    ),
    ErrorCode.NOT_DELIVERED: ErrorRow(
        422, 2, "What came in by an adapter reached no mailbox; it is a dead letter, and the details say why."
    ),
    ErrorCode.SECRET_UNAVAILABLE: ErrorRow(422, 2, "A secret of an adapter is not where its setting says."),
    ErrorCode.AGENT_EXISTS: ErrorRow(409, 4, "Another agent is registered with this id or at this path."),
    ErrorCode.LEASE_LOST: ErrorRow(409, 4, "The lease expired or belongs to somebody else; claim again."),
    ErrorCode.RUN_NOT_ACTIVE: ErrorRow(409, 4, "The run has already finished."),
    ErrorCode.REASON_REQUIRED: ErrorRow(
        400, 2, "An agent has to say why it wants a schedule, for the person who approves it."
    ),
    ErrorCode.APPROVAL_NOT_FOUND: ErrorRow(404, 3, "No approval has this id."),
    ErrorCode.APPROVAL_DECIDED: ErrorRow(
        409, 4, "The approval was answered already, or its time is over; the details say how it ended."
    ),
    ErrorCode.APPROVAL_SUPERSEDED: ErrorRow(
        409, 4, "The schedule was changed after it was shown; read the approval that is open now."
    ),
    ErrorCode.CONFLICT: ErrorRow(409, 4, "Somebody else changed it at the same time; read it and try again."),
    ErrorCode.IDEMPOTENCY_CONFLICT: ErrorRow(
        409, 2, "The idempotency key was used for another message within the last 24 hours."
    ),
    ErrorCode.FLEET_ON_HOLD: ErrorRow(
        409, 6, "The fleet is on hold, stopped or draining, so this is not started until a person lifts that."
    ),
    ErrorCode.TOO_MANY_STREAMS: ErrorRow(
        429, 6, "The server holds as many event streams as it is willing to."
    ),
    ErrorCode.TOO_MANY_CONNECTIONS: ErrorRow(
        503, 6, "As many connections are open as the files that the server may open leave room for."
    ),
    ErrorCode.TOO_MANY_FAILURES: ErrorRow(
        429, 5, "This address has shown tokens that do not hold, too often; a token that holds is let in."
    ),
    ErrorCode.TOO_MANY_PROPOSALS: ErrorRow(
        429, 6, "As many schedules of this agent wait for approval as may wait at once."
    ),
    ErrorCode.EXPOSURE_REFUSED: ErrorRow(
        400, 2, "The server would be reached from other machines, and nobody said by which names."
    ),
    ErrorCode.NOT_RUNNING: ErrorRow(503, 6, "No server answers; start one with `dorkos up`."),
    ErrorCode.HOME_LOCKED: ErrorRow(409, 6, "Another server holds this data directory."),
    ErrorCode.HOME_UNWRITABLE: ErrorRow(500, 6, "The data directory cannot be created or written."),
    ErrorCode.PORT_IN_USE: ErrorRow(500, 6, "The port is taken by another program."),
    ErrorCode.NOT_READY: ErrorRow(
        503, 6, "A part of the server is not ready; the details say which and why."
    ),
    ErrorCode.REQUEST_TIMEOUT: ErrorRow(
        503, 6, "The request took longer to arrive, or its answer to be made, than the server allows."
    ),
    ErrorCode.SHUTTING_DOWN: ErrorRow(503, 6, "The server is stopping and takes no new work."),
    ErrorCode.DATABASE_NEWER: ErrorRow(500, 7, "The database was written by a newer version."),
    ErrorCode.DATABASE_FOREIGN: ErrorRow(500, 7, "The file is not a DorkOS database."),
    ErrorCode.DATABASE_LINEAGE: ErrorRow(500, 7, "The database was written by DorkOS for Node."),
    ErrorCode.DATABASE_CORRUPT: ErrorRow(500, 7, "The database file is damaged."),
    ErrorCode.DATABASE_DRIFT: ErrorRow(500, 7, "The schema in the database differs from the declared one."),
    ErrorCode.DATABASE_BUSY: ErrorRow(503, 7, "Another program holds the database; try again."),
    ErrorCode.DATABASE_READONLY: ErrorRow(500, 7, "The database cannot be written."),
    ErrorCode.DATABASE_UNREACHABLE: ErrorRow(503, 7, "The database server does not answer."),
    ErrorCode.DISK_FULL: ErrorRow(507, 7, "The disk is full; nothing of this change was stored."),
    ErrorCode.MIGRATION_CHANGED: ErrorRow(500, 7, "A migration was edited after it was applied."),
    ErrorCode.MIGRATION_MISSING: ErrorRow(
        500, 7, "The database has a migration that this version does not know."
    ),
    ErrorCode.MIGRATION_FAILED: ErrorRow(500, 7, "A migration failed; the database is as it was before."),
    ErrorCode.SNAPSHOT_FAILED: ErrorRow(
        500, 7, "The snapshot before a migration failed; nothing was migrated."
    ),
    ErrorCode.DRIVER_MISSING: ErrorRow(500, 7, "The database driver is not installed, or is too old."),
    ErrorCode.OUTCOME_UNKNOWN: ErrorRow(
        503,
        7,
        "The connection broke, or the file was taken away, during COMMIT: the change may or may not be "
        "stored. Read before you repeat it.",
    ),
    ErrorCode.BACKUP_FAILED: ErrorRow(500, 7, "No verified copy of the database could be made."),
    ErrorCode.RESTORE_FAILED: ErrorRow(
        500, 7, "The restore could not be carried out; the message says where the database is."
    ),
    ErrorCode.NETWORK_FILESYSTEM: ErrorRow(
        500, 7, "The database would lie on a network file system, where SQLite can lose data."
    ),
    ErrorCode.TARGET_NOT_EMPTY: ErrorRow(
        409, 7, "The database that rows were to be moved into holds rows already."
    ),
    ErrorCode.MOVE_UNFINISHED: ErrorRow(
        500, 7, "An import or a transfer into the database was begun and is not finished."
    ),
    ErrorCode.IMPORT_INVALID: ErrorRow(
        400, 2, "The file is no complete export, or was changed; the message names the line."
    ),
    ErrorCode.EXPORT_FAILED: ErrorRow(500, 7, "The export could not be written; no file was made."),
    ErrorCode.TRANSFER_FAILED: ErrorRow(
        500, 7, "What arrived at the other database is not what was sent; it is not served."
    ),
    ErrorCode.INTERNAL_ERROR: ErrorRow(500, 70, "A fault of DorkOS itself; the log has the details."),
}


class DorkError(Exception):
    """A refusal that a person can act on.

    `message` says what is wrong with the names and numbers of this case, `hint` says what to do,
    `details` is structured data for programs (JSON-ready).
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        hint: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        """Build a refusal; see the class for what each part is for."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.details = dict(details) if details is not None else None

    @property
    def http_status(self) -> int:
        """The HTTP status of this code."""
        return ERRORS[self.code].http_status

    @property
    def exit_code(self) -> int:
        """The process exit code of this code."""
        return ERRORS[self.code].exit_code

    def body(self) -> dict[str, object]:
        """The wire shape `{error, code, details?, hint?}` shared by REST and the CLI's `--json`."""
        body: dict[str, object] = {"error": self.message, "code": self.code.value}
        if self.details is not None:
            body["details"] = self.details
        if self.hint is not None:
            body["hint"] = self.hint
        return body

    def __repr__(self) -> str:
        """Show the code first, since that is what one looks for in a log."""
        return f"DorkError({self.code.value}: {self.message})"
