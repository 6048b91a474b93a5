"""The access rules that come and go with agents, kept and judged by Relay."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.relay import relay_rules
from dorkos.mesh.model import AccessRule, Source
from dorkos.mesh.topology import namespace_pattern
from dorkos.relay import rules
from dorkos.relay.policy import first_match, of_sender, open_by_default
from dorkos.relay.rules import NewRule
from dorkos.relay.subjects import AGENTS
from dorkos.vocabulary import RuleAction

WITHIN_PRIORITY = 100
BETWEEN_PRIORITY = 50
DEFAULT_PRIORITY = 10
_ACCESS = "access:"

_r = relay_rules.c


class NamespaceRules:
    """Each rule that is made here says in `managed_by` what it was made for, and goes with it.

    | made for              | from                | to                  | action | priority |
    |-----------------------|---------------------|---------------------|--------|----------|
    | `namespace:<ns>`      | relay.agent.<ns>.*  | relay.agent.<ns>.*  | allow  | 100      |
    | `namespace:<ns>`      | relay.agent.<ns>.*  | relay.agent.>       | deny   | 10       |
    | `access:<src>:<dst>`  | relay.agent.<src>.* | relay.agent.<dst>.* | allow  | 50       |
    """

    @property
    def enforced(self) -> bool:
        """Whether publishing asks these rules."""
        return True

    def rules(self, source: Source) -> list[AccessRule]:
        """All rules, in the order in which they decide. One that cannot be read stands first and denies."""
        return [
            AccessRule(
                each.rule.id,
                each.rule.from_pattern,
                each.rule.to_pattern,
                each.rule.action,
                each.rule.priority,
                each.managed_by,
            )
            for each in rules.stored(source)
        ]

    def rules_of(self, source: Source, sender: str) -> list[AccessRule]:
        """Those that can decide about what `sender` sends: a handful, however many stand. Who asks about
        every agent would else hold each of them against every rule."""
        return list(of_sender(self.rules(source), sender))

    def may_send(self, standing: list[AccessRule], sender: str, recipient: str) -> bool:
        """Whether the rules let `sender` publish to `recipient`, as publishing itself would decide."""
        rule = first_match(standing, sender, recipient)
        return open_by_default(sender, recipient) if rule is None else rule.action is RuleAction.ALLOW

    def protect(self, tx: Transaction, *, namespace: str, rule_ids: tuple[str, str], actor: str) -> None:
        """Have the two rules of a namespace. Those that stand are held until the change ends."""
        if self._held(tx, namespace):
            return
        own, made_for = namespace_pattern(namespace), f"namespace:{namespace}"
        about = f"Made for the agents of the namespace {namespace}."
        within = NewRule(rule_ids[0], own, own, RuleAction.ALLOW, WITHIN_PRIORITY, about, made_for)
        default = NewRule(rule_ids[1], own, AGENTS, RuleAction.DENY, DEFAULT_PRIORITY, about, made_for)
        rules.insert(tx, within, actor=actor)
        rules.insert(tx, default, actor=actor)

    def hold(self, tx: Transaction, *, namespace: str) -> None:
        """Hold the rules of a namespace against other changes until this one ends."""
        self._held(tx, namespace)

    def release(self, tx: Transaction, *, namespace: str, actor: str) -> None:
        """Remove exactly what `protect` made, and what was opened to and from the namespace: a later one of
        that name must not inherit it."""
        opened = tx.execute(
            sa.select(_r.id, _r.managed_by).where(sa.func.substr(_r.managed_by, 1, len(_ACCESS)) == _ACCESS)
        ).all()
        ends = [row.id for row in opened if namespace in row.managed_by.split(":")[1:]]
        which = sa.or_(_r.managed_by == f"namespace:{namespace}", _r.id.in_(ends))
        rules.delete(tx, which, actor=actor)

    def open_between(self, tx: Transaction, *, source: str, target: str, rule_id: str, actor: str) -> None:
        """Let agents of one namespace send to those of another. Harmless to repeat."""
        made_for = f"{_ACCESS}{source}:{target}"
        if tx.execute(sa.select(_r.id).where(_r.managed_by == made_for)).first() is not None:
            return
        allow = NewRule(
            rule_id,
            namespace_pattern(source),
            namespace_pattern(target),
            RuleAction.ALLOW,
            BETWEEN_PRIORITY,
            f"Lets agents of {source} send to {target}.",
            made_for,
        )
        rules.insert(tx, allow, actor=actor)

    def close_between(self, tx: Transaction, *, source: str, target: str, actor: str) -> None:
        """Remove what `open_between` made, and nothing else."""
        rules.delete(tx, _r.managed_by == f"{_ACCESS}{source}:{target}", actor=actor)

    def _held(self, tx: Transaction, namespace: str) -> bool:
        mine = sa.select(_r.id).where(_r.managed_by == f"namespace:{namespace}").order_by(_r.id)
        return bool(tx.execute(mine.with_for_update()).all())
