"""Roles of datasets in, the roles of chat templates out: one table for every format and every way to write them.

A role is looked up whatever its case, and whether it is written with ``-``, ``_`` or a space. A role for which the
template has a branch of its own passes as it is; what nobody knows is refused, with the nearest name that is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from instruct_fmt.adapt.fields import COLUMNS, MESSAGE
from instruct_fmt.common.names import nearest_name
from instruct_fmt.errors import UsageError

CALL = "(call)"
"""Stands for the assistant, in a message whose text is a call."""

_NAMES: Mapping[str, tuple[str, ...]] = {
    "user": ("user", "human", "prompter"),
    "assistant": ("assistant", "gpt", "bot", "model", "ai", "chatbot", "chatgpt", "llm", "bing", "bard", "claude"),
    "system": ("system", "system_prompt"),
    "developer": ("developer",),
    "tool": (
        "tool", "function", "observation", "tool_response", "tool_result", "tool_results", "tool_output",
        "function_response", "function_result", "function_output", "ipython", "environment",
    ),
    CALL: ("function_call", "function_calls", "tool_call", "tool_calls"),
}  # fmt: skip
TABLE: Mapping[str, str] = {name: role for role, names in _NAMES.items() for name in names}
"""The names of public datasets, as `plain_name` writes them → the roles of templates."""

_SPEAKERS = frozenset({"user", "assistant", "system"})


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles of one dataset under one template.

    Attributes:
        added: names that the user adds → roles, or `CALL`.
        own: roles that the template compares with a message's.
    """

    added: Mapping[str, str] = field(default_factory=dict)
    own: frozenset[str] = frozenset()
    _known: dict[str, str | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    def read(self, written: str) -> str | None:
        """The role that a dataset's word stands for, or `CALL`; None where nobody knows it.

        >>> Roles().read("Human"), Roles().read("function-call"), Roles(own=frozenset({"ipython"})).read("ipython")
        ('user', '(call)', 'ipython')
        """
        if written not in self._known:
            self._known[written] = self._found(written)
        return self._known[written]

    def _found(self, written: str) -> str | None:
        name = plain_name(written)
        if written in self.added or name in self.added:
            return self.added.get(written, self.added.get(name))
        role = TABLE.get(name)
        if written in self.own and role != CALL and (role not in _SPEAKERS or role not in self.own):
            return written
        return role

    def nearest(self, written: str) -> str | None:
        """The known name that was probably meant."""
        return nearest_name(plain_name(written), [*self.added, *self.own, *TABLE])


def plain_name(role: str) -> str:
    """A role's name whatever its case and its hyphens.

    >>> plain_name("Tool-Response")
    'tool_response'
    """
    return role.strip().lower().replace("-", "_").replace(" ", "_")


def added_roles(roles: Mapping[str, str]) -> dict[str, str]:
    """The names that a user adds, checked and ready to be looked up.

    Raises:
        UsageError: a role that is none, or a name that means two.
    """
    found: dict[str, str] = {}
    for written, role in roles.items():
        meant = role if role == written else TABLE.get(plain_name(role))
        if meant is None:
            near = nearest_name(plain_name(role), TABLE)
            fix = f"roles={{{written!r}: {near or 'user'!r}}}"
            raise UsageError(
                "roles",
                f"{role!r} for {written!r}",
                f"one of {', '.join(map(repr, _shown()))}, or the same word, for a role "
                "that the template prints as it is",
                fix,
            )
        found[written] = meant
    return found


def allowed_names(names: Sequence[str]) -> frozenset[str]:
    """The roles and fields that may be left out, roles under every name as templates know them.

    Raises:
        UsageError: a name that nothing has, but that is nearly a role's or a usual field's.

    >>> sorted(allowed_names(["Human", "thought"]))
    ['Human', 'thought', 'user']
    """
    columns = {name for names in COLUMNS.values() for name in names}
    known = {*TABLE, *MESSAGE, *columns, "content", "thinking", "reasoning", "label"}
    for name in names:
        near = None if plain_name(name) in known else nearest_name(plain_name(name), sorted(known))
        if near is not None:
            raise UsageError(
                "allow_dropped",
                f"{name!r} (did you mean {near!r}?)",
                "roles such as 'system', and fields of messages such as 'name'",
                f"allow_dropped=[{near!r}]",
            )
    return frozenset(names) | {TABLE[plain_name(name)] for name in names if plain_name(name) in TABLE}


def trained_roles(names: Sequence[str], roles: Roles) -> tuple[str, ...]:
    """The roles that are trained, as templates know them; a call is the assistant's.

    Raises:
        UsageError: a name that is no role.

    >>> trained_roles(["gpt", "function_call"], Roles())
    ('assistant',)
    """
    found: dict[str, None] = {}
    for name in names:
        role = roles.read(name)
        if role is None:
            near = roles.nearest(name) or "assistant"
            raise UsageError(
                "train_on",
                f"{name!r}, which is no role",
                "roles such as 'assistant' and 'tool'",
                f"train_on=[{near!r}], or say what it means with roles={{{name!r}: 'assistant'}}",
            )
        found["assistant" if role == CALL else role] = None
    return tuple(found)


def _shown() -> list[str]:
    return ["function_call" if role == CALL else role for role in _NAMES]
