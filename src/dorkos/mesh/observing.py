"""Looking at agents: how they are, what they spent, whom they reach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from dorkos.clock import Clock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.mesh import store
from dorkos.mesh.budgets import CallBudgets, Spent
from dorkos.mesh.copies import Copies
from dorkos.mesh.denials import denial_over
from dorkos.mesh.drift import Drift, ManifestState, drift
from dorkos.mesh.folders import Folders, Presence
from dorkos.mesh.health import Health, Thresholds, health
from dorkos.mesh.hosts import Hosts
from dorkos.mesh.model import (
    AccessRules,
    Agent,
    AgentWork,
    Connections,
    Denial,
    ObservedTraffic,
    Source,
    Work,
)
from dorkos.mesh.topology import (
    EVERYBODY,
    MaySend,
    Topology,
    Viewer,
    namespaces_within,
    topology,
    viewer_of,
    visible,
)
from dorkos.node import AWAY_AFTER, hosts_at_work
from dorkos.vocabulary import HealthState, Scope

_NO_WORK = Work()
_TRAFFIC_OF = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Observed:
    """An agent with its health, and how many of its schedules fire."""

    agent: Agent
    health: Health
    work: Work


@dataclass(frozen=True, slots=True)
class MeshStatus:
    """Counts of agents, by how they are, by runtime and by project path."""

    total: int
    by_state: Mapping[HealthState, int]
    by_runtime: Mapping[str, int]
    by_project: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that is known of one agent. `copies` are folders that claim the agent's identity;
    one on another machine is written `host:path`."""

    observed: Observed
    spent: Spent
    denial: Denial | None
    manifest: Drift
    copies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class View:
    """A topology, with the health of the agents in it, and the adapters by the subjects of agents: these are
    told to people only. `enforced` tells whether the rules decide."""

    topology: Topology
    observed: Mapping[str, Observed]
    adapters: Mapping[str, list[str]]
    enforced: bool


class Observatory:
    """Answers what can be seen of agents, and by whom. Changes nothing."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        thresholds: Thresholds,
        *,
        budgets: CallBudgets,
        folders: Folders,
        hosts: Hosts,
        copies: Copies,
        work: AgentWork,
        rules: AccessRules,
        traffic: ObservedTraffic,
        connections: Connections,
    ) -> None:
        """Keep the collaborators."""
        self._database = database
        self._clock = clock
        self._thresholds = thresholds
        self._budgets = budgets
        self._folders = folders
        self._hosts = hosts
        self._copies = copies
        self._work = work
        self._rules = rules
        self._traffic = traffic
        self._connections = connections

    def viewer(self, caller: Caller, namespace: str | None = None) -> Viewer:
        """Through whose eyes a caller looks. People see everything, and may look through others' eyes.

        An agent looks through its own, whatever it asks for: `agent_not_found` hides the rest.
        """
        if caller.agent_id is None and caller.may(Scope.OBSERVE):
            is_all = namespace in (None, EVERYBODY)
            return Viewer(EVERYBODY, caller.subject) if is_all else viewer_of(namespace or "")
        tokens = caller.subject.split(".")
        own = tokens[2] if len(tokens) == 4 and tokens[:2] == ["relay", "agent"] else ""
        if namespace not in (None, "", own):
            raise DorkError(
                ErrorCode.FORBIDDEN,
                f"{caller.subject} sees what its own namespace sees, not what {namespace!r} does.",
                hint="Leave the namespace out.",
            )
        return Viewer(own, caller.subject)

    async def within(self, viewer: Viewer) -> frozenset[str] | None:
        """Namespaces that hold all that the viewer may see, so that no others need be looked at; None if
        they may be any."""
        return await self._database.read(lambda connection: self._within(connection, viewer))

    def _within(self, source: Source, viewer: Viewer) -> frozenset[str] | None:
        if viewer.sees_all:
            return None
        return namespaces_within(viewer, self._rules.rules_of(source, viewer.subject))

    def filter(
        self, source: Source, viewer: Viewer, state: HealthState | None, agents: list[Agent]
    ) -> list[Agent]:
        """Those that the viewer may see and that are in a state."""
        seen = list(visible(agents, viewer, self._may_send(source, viewer)))
        if state is None:
            return seen
        return [each.agent for each in self._observe(source, seen) if each.health.state is state]

    async def observe(self, agents: Sequence[Agent]) -> list[Observed]:
        """The health of each, in the order given."""
        return await self._database.read(lambda connection: self._observe(connection, agents))

    async def agent(self, agent_id: str, viewer: Viewer) -> Observed:
        """One agent. Raises `agent_not_found`, also for one that the viewer may not see."""
        return await self._database.read(lambda connection: self._one(connection, agent_id, viewer))

    async def reach(self, agent_id: str, viewer: Viewer) -> list[Observed]:
        """The agents that an agent may see, without itself. Raises `agent_not_found`."""

        def query(connection: Source) -> list[Observed]:
            agent = self._one(connection, agent_id, viewer).agent
            eyes = Viewer(agent.namespace, agent.subject)
            others = [other for other in self._agents_before(connection, eyes) if other.id != agent_id]
            both = visible(others, eyes, self._may_send(connection, eyes))
            seen = visible(both, viewer, self._may_send(connection, viewer))
            return self._observe(connection, seen)

        return await self._database.read(query)

    async def inspect(self, agent_id: str, viewer: Viewer) -> Inspection:
        """All about one agent. Looks at its folder as well. Raises `agent_not_found`."""
        now = self._clock.now()

        def query(connection: Source) -> tuple[Observed, Spent | None, Denial | None]:
            observed = self._one(connection, agent_id, viewer)
            return (
                observed,
                self._budgets.spent(connection, agent_id, now),
                denial_over(connection, observed.agent.project_path),
            )

        observed, spent, denial = await self._database.read(query)
        is_here = self._hosts.is_here(observed.agent)
        manifest = await self._manifest(observed.agent, is_here)
        copies = await self._copies.of(agent_id, observed.agent.project_path if is_here else None)
        return Inspection(
            observed,
            spent or Spent(0, self._budgets.calls_per_hour, self._budgets.hops_per_message),
            denial,
            manifest,
            tuple(
                str(copy.path) if self._hosts.owns(copy.host) else f"{copy.host}:{copy.path}"
                for copy in copies
            ),
        )

    async def _manifest(self, agent: Agent, is_here: bool) -> Drift:
        if not is_here:
            detail = f"It lies on the host {agent.host}: ask a server there."
            return Drift(ManifestState.ELSEWHERE, {}, {}, detail)
        look = await self._folders.look(agent)
        if look.found is None:
            is_gone = look.presence is Presence.GONE
            state = ManifestState.MISSING if is_gone else ManifestState.INVALID
            return Drift(state, {}, {}, look.detail or f"{agent.project_path} is not there.")
        return drift(agent, look.found)

    async def status(self, viewer: Viewer) -> MeshStatus:
        """How many agents there are, of those that the viewer may see."""

        def query(connection: Source) -> MeshStatus:
            agents = self._agents_before(connection, viewer)
            seen = self._observe(connection, visible(agents, viewer, self._may_send(connection, viewer)))
            return MeshStatus(
                len(seen),
                Counter(each.health.state for each in seen),
                Counter(each.agent.runtime.value for each in seen),
                Counter(str(each.agent.project_path) for each in seen) if viewer.sees_all else {},
            )

        return await self._database.read(query)

    async def topology(self, viewer: Viewer) -> View:
        """Who reaches whom, and who did in the last 24 hours, of what the viewer may see."""
        since = self._clock.now() - _TRAFFIC_OF

        def query(connection: Source) -> View:
            agents = sorted(
                self._agents_before(connection, viewer),
                key=lambda each: (each.registered_at, each.id),
                reverse=True,
            )
            rules = self._rules.rules(connection)
            view = topology(
                agents,
                rules,
                self._traffic.traffic(connection, since=since),
                viewer,
                self._may_send(connection, viewer),
            )
            seen = [agent for namespace in view.namespaces for agent in namespace.agents]
            observed = {each.agent.id: each for each in self._observe(connection, seen)}
            subjects = [agent.subject for agent in seen] if viewer.sees_all else []
            adapters = self._connections.adapters_of(connection, subjects)
            return View(view, observed, adapters, self._rules.enforced)

        return await self._database.read(query)

    def _one(self, source: Source, agent_id: str, viewer: Viewer) -> Observed:
        agent = store.agent_by_id(source, agent_id)
        found = () if agent is None else visible([agent], viewer, self._may_send(source, viewer))
        if not found:
            raise DorkError(
                ErrorCode.AGENT_NOT_FOUND,
                f"No agent has the id {agent_id!r}.",
                hint="List the agents to see their ids.",
            )
        return self._observe(source, found)[0]

    def _may_send(self, source: Source, viewer: Viewer) -> MaySend:
        if viewer.sees_all:
            return _anybody
        return partial(self._rules.may_send, self._rules.rules_of(source, viewer.subject))

    def _agents_before(self, source: Source, viewer: Viewer) -> list[Agent]:
        """The agents among which are all that the viewer may see, by id."""
        return store.all_agents(source, namespaces=self._within(source, viewer))

    def _observe(self, source: Source, agents: Iterable[Agent]) -> list[Observed]:
        listed = list(agents)
        known = self._work.work_of(source, [agent.id for agent in listed])
        away = self._hosts_away(source, listed)
        return [self._judged(agent, known.get(agent.id, _NO_WORK), away) for agent in listed]

    def _hosts_away(self, source: Source, agents: Iterable[Agent]) -> set[str]:
        """The machines on which these agents lie and where no server is at work."""
        named = {agent.host for agent in agents if not self._hosts.is_here(agent)}
        return named - hosts_at_work(source, since=self._clock.now() - AWAY_AFTER) if named else set()

    def _judged(self, agent: Agent, work: Work, away: set[str]) -> Observed:
        judged = health(
            now=self._clock.now(),
            status=agent.status,
            last_seen_at=agent.last_seen_at,
            unreachable_since=agent.unreachable_since,
            # The mailbox of a silent agent only keeps messages: none of them waits for it.
            work=replace(work, mail_waits_since=None) if agent.behavior.is_silent else work,
            thresholds=self._thresholds,
            host_away=agent.host in away,
        )
        return Observed(agent, judged, work)


def _anybody(_sender: str, _recipient: str) -> bool:
    return True
