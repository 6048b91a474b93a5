"""Runtimes whose agents are driven by a child process of ours: `dorkos.runtimes.driver_main`."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from dorkos.runtimes.command import CommandTurn, start_program
from dorkos.runtimes.driver import DriverRequest
from dorkos.runtimes.protocol import RunSpec


@dataclass(frozen=True, slots=True)
class DrivenRuntime:
    """Starts the driver `module`: a name or a path that `driver_main.load` knows."""

    module: str
    model: str | None = None
    max_turns: int | None = None
    max_cost_microusd: int | None = None

    reports = True
    in_process = False

    async def start(self, spec: RunSpec) -> CommandTurn:
        """Start the driver and hand it the request. Raises `StartFailedError`."""
        request = DriverRequest(
            prompt=spec.prompt,
            cwd=str(spec.cwd),
            permission_mode=spec.permission_mode.value,
            system_context=spec.system_context,
            resume=spec.resume,
            max_turns=self.max_turns,
            max_cost_microusd=self.max_cost_microusd,
            mcp_url=spec.mcp_url,
            model=self.model,
            argv=spec.argv,
        )
        return await start_program(_argv(self.module), spec, request.encoded(), ends_others=True)


def _argv(module: str) -> list[str]:
    # -P: else the working directory, which the agent may write, is the first place to look for modules.
    return [sys.executable, "-P", "-m", "dorkos.runtimes.driver_main", module]
