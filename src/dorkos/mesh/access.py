"""Letting one namespace send to another, and no longer letting it."""

from __future__ import annotations

from dorkos.db.database import Database, Transaction
from dorkos.errors import DorkError, ErrorCode
from dorkos.ids import new_id
from dorkos.mesh import store
from dorkos.mesh.model import AccessRules
from dorkos.mesh.namespace import normalise
from dorkos.vocabulary import RuleAction


class NamespaceAccess:
    """Opens and closes the way between two namespaces, in one direction."""

    def __init__(self, database: Database, rules: AccessRules) -> None:
        """Keep the collaborators."""
        self._database = database
        self._rules = rules

    async def set(self, source: str, target: str, action: RuleAction, *, actor: str) -> None:
        """Make a rule of its own for `allow`; `deny` removes that rule, so that the default holds again.

        No other rule is touched: what a person wrote by hand stays. Raises `validation_failed` for what is
        no namespace (a wildcard would open or close everything), and for opening the way from or to one
        without agents: whoever takes that name later must not find it open.
        """
        for name in (source, target):
            if not name or normalise(name) != name:
                raise DorkError(
                    ErrorCode.VALIDATION_FAILED,
                    f"{name!r} is no namespace.",
                    hint="Name one as `dorkos mesh topology` shows it: letters a to z, digits and hyphens.",
                )
        if source == target:
            raise DorkError(
                ErrorCode.VALIDATION_FAILED,
                "The agents of one namespace reach one another already.",
                hint="To keep some of them apart, write a rule of your own with `dorkos relay rules`.",
            )
        rule_id = new_id()

        def change(tx: Transaction) -> None:
            if action is RuleAction.ALLOW:
                for name in (source, target):
                    _refuse_empty(tx, name)
                self._rules.open_between(tx, source=source, target=target, rule_id=rule_id, actor=actor)
            else:
                self._rules.close_between(tx, source=source, target=target, actor=actor)

        await self._database.write(change)


def _refuse_empty(tx: Transaction, namespace: str) -> None:
    if store.agents_in(tx, namespace) == 0:
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"No agent is registered in the namespace {namespace!r}.",
            hint="`dorkos mesh topology` shows the namespaces that there are.",
        )
