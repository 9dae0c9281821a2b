"""The judge of labels: what is trained must be the assistant's own words, and their stop.

In: a formatter's row and the conversation that it was made of. Out: what is wrong with its labels, in words; nothing
where they are right. It knows nothing of how the package marks them: it decodes them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import instruct_fmt as ifmt

IGNORED = -100
ASSISTANTS = frozenset({"assistant", "gpt", "bot", "model", "ai", "chatbot"})
_WORD = re.compile(r"\w+")


def trained(fmt: ifmt.Formatter, row: Mapping[str, Sequence[int]]) -> str:
    """The text of the trained tokens, with the stops in it."""
    ids = [label for label in row["labels"] if label != IGNORED]
    found: str = fmt.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return found


def aligned(fmt: ifmt.Formatter, row: Mapping[str, Sequence[int]]) -> list[str]:
    """Labels are the ids that they stand over, or ignored; behind a stop nothing is trained."""
    labels = list(row["labels"])
    pairs = zip(row["input_ids"], labels, strict=True)
    wrong = [] if all(label in (id, IGNORED) for id, label in pairs) else ["a label is not the id that it stands over"]
    after = [second for first, second in pairwise(labels) if first in fmt.stop.ids and second != IGNORED]
    return wrong + ([f"trained {_brief(fmt.tokenizer.decode(after[:1]))} behind a stop"] if after else [])


def as_served(fmt: ifmt.Formatter, row: Mapping[str, Sequence[int]], turns: Sequence[str], stop: str) -> list[str]:
    """Each turn as it is and its stop, in order, and nothing else."""
    wanted, found = "".join(turn + stop for turn in turns), trained(fmt, row)
    return aligned(fmt, row) + ([] if found == wanted else [f"trained {_brief(found)}, not {_brief(wanted)}"])


def own_words(
    fmt: ifmt.Formatter, row: Mapping[str, Sequence[int]], messages: Sequence[Mapping[str, str]], template: str
) -> list[str]:
    """Each trained word is the template's, or made of the assistants' letters: templates may write words in their way.

    The words of other speakers have letters that the assistants' lack.
    """
    found = trained(fmt, row)
    own = Counter("".join(m["content"] for m in messages if m["role"] == "assistant").lower())
    others = {word for m in messages if m["role"] != "assistant" for word in _WORD.findall(m["content"])}
    known = f"{template} {' '.join(fmt.stop.strings)} {' '.join(messages[0])}"
    wrong = aligned(fmt, row)
    for word in dict.fromkeys(_WORD.findall(found)):
        if word not in known and Counter(word.lower()) - own:
            wrong.append(f"trained {_brief(word)}" + (" of another speaker" if word in others else ""))
    return wrong[:3] if found else [*wrong, "nothing is trained"]


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
