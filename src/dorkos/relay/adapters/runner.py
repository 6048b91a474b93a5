"""One adapter at work: opened with a deadline, tried again when it fails, and stopped by its server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from dorkos.db.database import Database
from dorkos.errors import DorkError
from dorkos.lifecycle import Signal
from dorkos.relay.adapters import store
from dorkos.relay.adapters.model import Adapter, AuthFailedError, Connection, NotNow, Unknown
from dorkos.relay.adapters.outbox import Outbox
from dorkos.vocabulary import AdapterState

log = logging.getLogger("dorkos.relay.adapters")

# How long an adapter may take to get ready, and to let go.
OPEN_WITHIN_S = 20.0
_CLOSE_WITHIN_S = 3.0
# How long a message that is being sent may go on when its adapter is stopped.
_LAST_WORDS_S = 2.0
_RETRY_FIRST_S = 1.0
_RETRY_MAX_S = 300.0

Connect = Callable[[], Connection]


class AdapterRunner:
    """Runs one adapter until it is stopped, or until its credentials are refused."""

    def __init__(
        self,
        adapter: Adapter,
        *,
        database: Database,
        owner: str,
        connect: Connect,
        outbox: Outbox | None,
        open_within_s: float = OPEN_WITHIN_S,
    ) -> None:
        """`owner` is the node that runs it; `outbox` None for one that sends nothing."""
        self.adapter = adapter
        self.states: Signal[AdapterState] = Signal()
        self._is_barred = False
        self._database = database
        self._owner = owner
        self._connect = connect
        self._outbox = outbox
        self._open_within_s = open_within_s
        self._sending = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. Nobody waits for it: an adapter that hangs holds up nothing else."""
        self._task = asyncio.create_task(self._run(), name=f"dorkos.relay.adapter.{self.adapter.id}")

    @property
    def has_failed(self) -> bool:
        """Whether it ended by a fault of ours that nothing tries again; refused credentials are none."""
        return self._task is not None and self._task.done() and not self._is_barred

    async def stop(self) -> None:
        """End it, after the message that is just being sent if that does not take long. Never raises."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._sending.acquire()
        self._task.cancel()
        (fault,) = await asyncio.gather(self._task, return_exceptions=True)
        if isinstance(fault, Exception):
            log.error("the adapter %s ended by a fault", self.adapter.id, exc_info=fault)

    async def _run(self) -> None:
        retry_s = _RETRY_FIRST_S
        timer = asyncio.get_running_loop()
        while True:
            connection: Connection | None = None
            began = timer.time()
            try:
                await self._tell(AdapterState.STARTING)
                connection = self._connect()
                await self._open(connection)
                await self._tell(AdapterState.CONNECTED)
                await self._work(connection)
            except AuthFailedError as fault:
                self._is_barred = True
                await self._tell(AdapterState.AUTH_FAILED, str(fault))
                return
            except Exception as fault:  # noqa: BLE001 - one adapter's failure is its own: shown, and tried again.
                await self._tell(AdapterState.ERROR, _said(fault))
            finally:
                if connection is not None:
                    await _closed(connection)
            if timer.time() - began > _RETRY_MAX_S:
                retry_s = _RETRY_FIRST_S
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, _RETRY_MAX_S)

    async def _open(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(self._open_within_s):
                await connection.open()
        except TimeoutError as fault:
            raise TimeoutError(f"it was not ready within {self._open_within_s:g} seconds") from fault

    async def _work(self, connection: Connection) -> None:
        """Receive and send until one of them fails."""
        tasks = {asyncio.ensure_future(connection.receive())}
        if self._outbox is not None:
            tasks.add(asyncio.ensure_future(self._send_all(connection, self._outbox)))
        try:
            while tasks:
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            await asyncio.Event().wait()  # It takes in by requests alone.
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_all(self, connection: Connection, outbox: Outbox) -> None:
        is_well = True
        while True:
            waiting = await outbox.next()
            async with self._sending:
                try:
                    outcome = await connection.send(waiting)
                except AuthFailedError:
                    await outbox.put_back(waiting)
                    raise
                except Exception as fault:  # A fault of ours in one message must not stop all others.
                    log.exception("the adapter %s could not send %s", self.adapter.id, waiting.message.id)
                    outcome = NotNow(f"It could not be sent: {_said(fault)}", fault=False)
                await outbox.settle(waiting, outcome)
            failed = isinstance(outcome, NotNow | Unknown)
            if failed is is_well:
                is_well = not failed
                await self._tell(AdapterState.CONNECTED if is_well else AdapterState.ERROR)

    async def _tell(self, state: AdapterState, error: str | None = None) -> None:
        """Store the state. That it could not be stored is no reason to stop."""
        if error is not None:
            log.warning("the adapter %s: %s: %s", self.adapter.id, state.value, error)
        try:
            await self._database.write(
                lambda tx: store.set_state(tx, self.adapter.id, self._owner, state, error=error)
            )
        except DorkError as refusal:
            log.error("the state of %s could not be stored: %s", self.adapter.id, refusal.message)
        self.states.emit(state)


async def _closed(connection: Connection) -> None:
    try:
        async with asyncio.timeout(_CLOSE_WITHIN_S):
            await connection.close()
    except Exception as fault:  # noqa: BLE001 - it is over anyway.
        log.warning("an adapter did not close in good order: %s", _said(fault))


def _said(fault: Exception) -> str:
    return fault.message if isinstance(fault, DorkError) else f"{fault}" or type(fault).__name__
