"""Names that were probably meant: a name that nothing has in, the one that it is a slip of out, if there is one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher

from instruct_fmt.errors import Change, let_go

_LONGEST = 100
_ALIKE = 0.75
_SHORTEST_STEM = 4


ANSWERS = ("output", "response", "completion", "answer")
"""Names of the column that is trained, the usual one first."""
RESERVED = frozenset(
    [
        *("messages", "conversation", "tools", "documents", "chat_template", "tokenize"),
        *("add_generation_prompt", "continue_final_message"),
    ]
)
"""What `apply_chat_template` takes for something else than a variable of the template."""


def nearest_name(name: str, options: Iterable[str]) -> str | None:
    """The option that a name is a slip of; None where none is alike enough to be meant.

    Letters in common do not make two words related: most of the letters must stand in the same order, or one must
    begin with the other.

    >>> nearest_name("asistant", ["user", "assistant"]), nearest_name("cutoff", ["cutoff_len"])
    ('assistant', 'cutoff_len')
    >>> nearest_name("ratio", ["train_on", "format"]) is None
    True
    """
    if len(name) > _LONGEST:  # nobody's slip
        return None
    scored = [(_alike(name.lower(), option.lower()), option) for option in dict.fromkeys(options)]
    best = max(scored, default=(0.0, ""), key=lambda found: found[0])
    return best[1] if best[0] >= _ALIKE else None


def hint(name: str, options: Iterable[str]) -> str:
    """The same as a half sentence for a message; empty where there is none."""
    near = nearest_name(name, options)
    return f" (did you mean {near!r}?)" if near is not None else ""


def meant_fields(name: str, value: object) -> Iterator[Change]:
    """What a message's field that nothing reads may be, the likeliest first.

    >>> [change.code for change in meant_fields("thought", "hmm")][0]
    "field_map={'reasoning_content': 'thought'}"
    """
    thinks = any(word in name.lower() for word in ("think", "thought", "reason", "cot"))
    called = "call" in name.lower() or not isinstance(value, str)
    for ours, likely in (("tool_calls", called), ("reasoning_content", thinks), ("content", not called)):
        if likely:
            yield Change(f"field_map={{{ours!r}: {name!r}}}", f"reads it as `{ours}`", {"field_map": {ours: name}})
    yield let_go(name)


def _alike(name: str, option: str) -> float:
    short, long = sorted((name, option), key=len)
    if len(short) >= _SHORTEST_STEM and long.startswith(short):
        return max(_ALIKE, len(short) / len(long))
    return SequenceMatcher(None, name, option).ratio()
