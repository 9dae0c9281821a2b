"""The judge of labels: what is trained must be the assistant's own words, and their stop.

In: a formatter's row and the conversation that it was made of. Out: what is wrong with its labels, in words; nothing
where they are right. It knows nothing of how the package marks them: it decodes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import instruct_fmt as ifmt

IGNORED = -100
ASSISTANTS = frozenset({"assistant", "gpt", "bot", "model", "ai", "chatbot"})
_WORD = re.compile(r"\w+")
_SPACE = re.compile(r"\W+")


def trained(fmt: ifmt.Formatter, row: Mapping[str, Sequence[int]]) -> str:
    """The text of the trained tokens, with the stops in it."""
    ids = [label for label in row["labels"] if label != IGNORED]
    found: str = fmt.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return found


def aligned(row: Mapping[str, Sequence[int]]) -> list[str]:
    """Labels are the ids that they stand over, or ignored."""
    pairs = zip(row["input_ids"], row["labels"], strict=True)
    return [] if all(label in (id, IGNORED) for id, label in pairs) else ["a label is not the id that it stands over"]


def as_served(fmt: ifmt.Formatter, row: Mapping[str, Sequence[int]], turns: Sequence[str], stop: str) -> list[str]:
    """Each turn as it is and its stop, in order, and nothing else."""
    wanted, found = "".join(turn + stop for turn in turns), trained(fmt, row)
    return aligned(row) + ([] if found == wanted else [f"trained {_brief(found)}, not {_brief(wanted)}"])


def own_words(
    fmt: ifmt.Formatter, row: Mapping[str, Sequence[int]], messages: Sequence[Mapping[str, str]], template: str
) -> list[str]:
    """No word of another speaker is trained, the turns that are trained are whole, and the rest is the template's."""
    found = trained(fmt, row)
    own = [m["content"] for m in messages if m["role"] == "assistant"]
    others = {word for m in messages if m["role"] != "assistant" for word in _WORD.findall(m["content"])}
    wrong = aligned(row)
    wrong += [f"trained {word!r} of another speaker" for word in sorted(others.intersection(_WORD.findall(found)))]
    rest, squeezed = _SPACE.sub(" ", found), _SPACE.sub("", found)
    if not any(_SPACE.sub("", turn) in squeezed for turn in own):
        wrong.append("no turn is trained whole")
    for turn in own:
        # A template may write a turn in its own way, with something between its letters.
        rest = re.sub(r"\W*".join(map(re.escape, _SPACE.sub("", turn))), " ", rest)
    known = template + "".join(fmt.stop.strings)
    odd = [word for word in _WORD.findall(rest) if word not in others and word not in known]
    return wrong + [f"trained {_brief(word)}, which nobody wrote" for word in odd[:2]]


def texts(messages: Any) -> list[str] | None:
    """The assistants' texts, as a template that prints contents prints them; None where they are not plain."""
    found = []
    for message in messages:
        if not isinstance(message, dict) or str(message.get("role", message.get("from"))).lower() not in ASSISTANTS:
            continue
        content = message.get("content", message.get("value"))
        if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
            content = "".join(part["text"] for part in content)
        if not isinstance(content, str):
            return None
        found.append(content)
    return found


def _brief(text: str) -> str:
    return repr(text if len(text) < 60 else f"{text[:30]}…{text[-20:]}")
