"""Which adapters of Relay connect an agent with the outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dorkos.mesh.model import Source
from dorkos.relay.adapters import store
from dorkos.relay.adapters.configs import inbound_of, patterns_of
from dorkos.relay.subjects import matches


class MailConnections:
    """Reads it from the settings of the adapters that are switched on."""

    def adapters_of(self, source: Source, subjects: Iterable[str]) -> Mapping[str, list[str]]:
        """Ids of adapters by the subject that they send to or take messages of; each in order."""
        asked = list(subjects)
        found: dict[str, list[str]] = {}
        for adapter in store.enabled(source):
            patterns = [*inbound_of(adapter), *patterns_of(adapter)]
            for subject in asked:
                if any(matches(subject, pattern) for pattern in patterns):
                    found.setdefault(subject, []).append(adapter.id)
        return found
