"""How turns and texts begin and end: stops, EOS, BOS, and markers that the tokenizer does not know.

In: a formatter and its marked probes. Out: findings; each comes from a probe that was rendered and encoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from instruct_fmt.doctor.findings import Finding, Level
from instruct_fmt.encode.row_encoder import EncodedRow
from instruct_fmt.errors import shown
from instruct_fmt.formatter import Formatter
from instruct_fmt.template.label.markers import SHOWN
from instruct_fmt.types import Example, Marked

__all__ = ["NAME_THE_STOP", "check_ends", "check_markers", "check_start"]

NAME_THE_STOP = (
    'if this model stops at the marker that opens the next turn, name it with stop="…"; else train_on="last" leaves '
    "these turns out"
)

# Shapes that only control tokens have; [INST] or <s> may be meant as text.
_CONTROL = re.compile(r"<[|｜].*>|<.*[|｜]>|\[\|.*\|\]|<[a-z]+(_[a-z]+)+>")


def check_ends(fmt: Formatter, answer: Marked, turns: Marked | None, call: Marked | None) -> Iterator[Finding]:
    """Findings about what ends a turn.

    Args:
        fmt: the formatter.
        answer: a probe that ends in an answer.
        turns: a conversation of several turns; None where there is none.
        call: a probe that ends in a tool call; None where the template has none.
    """
    terminator = _terminator(fmt, answer)
    if terminator is not None:
        yield from _serving(fmt, terminator, "an answer")
        yield from _second_stop(fmt, answer, terminator)
    elif answer.eos:
        yield Finding(
            "note",
            "eos-appended",
            f"the template writes no stop; EOS {shown(fmt.vocabulary.eos)} is appended behind the last turn",
            "the model learns to stop at EOS",
            'append_eos="never" leaves it out',
        )
    else:
        yield _no_stop(fmt, answer)
    if turns is not None and turns.counts.get("turns_without_stop", 0):
        yield Finding(
            "warning",
            "middle-turn-without-stop",
            "a turn that is not the last ends with no stop",
            "expected a stop behind each turn; such turns are trained without one, so the model learns nothing about "
            "where they end",
            NAME_THE_STOP,
        )
    ends_call = None if call is None else _terminator(fmt, call)
    if ends_call is not None and ends_call != terminator:
        yield from _serving(fmt, ends_call, "a tool call")
    yield _stops(fmt)


def _no_stop(fmt: Formatter, marked: Marked) -> Finding:
    eos, rest = fmt.vocabulary.eos, marked.text[marked.trained[-1][1] :]
    fix = "use a template that ends its turns"
    if eos is None:
        what = "the template writes no stop, and the tokenizer names no EOS"
        fix += ', set tokenizer.eos_token before compile(), or name a stop with stop="…"'
    elif rest.strip():
        what = f"the template writes no stop, and EOS {shown(eos)} cannot come behind {shown(rest)}"
    else:
        what = f'the template writes no stop, and append_eos="never" leaves EOS {shown(eos)} out'
        fix += ', or append EOS with append_eos="auto"'
    return Finding(
        "error",
        "no-stop",
        f"no trained token ends an answer: {what}",
        "expected a stop in the loss; a model trained without one does not learn when to stop",
        fix,
    )


def _terminator(fmt: Formatter, marked: Marked) -> str | None:
    """The stop with which the probe's last trained stretch ends; the longest, None where there is none."""
    text = marked.text[: marked.trained[-1][1]]
    return max((stop for stop in fmt.stop.strings if text.endswith(stop)), key=len, default=None)


def _serving(fmt: Formatter, terminator: str, turn: str) -> Iterator[Finding]:
    """What a server must know to stop where the training text stops."""
    eos = fmt.vocabulary.eos
    ids = fmt.vocabulary.backend.encode(terminator, add_special_tokens=False).ids
    if len(ids) != 1:
        yield Finding(
            "note" if _own(fmt, terminator) else "warning",
            "stop-not-a-token",
            f"{turn} ends in {shown(terminator)}, which this tokenizer writes as {len(ids)} ordinary tokens",
            "expected one control token: a server that stops at token ids runs past it",
            f"{_other_template(fmt, [terminator])}; or serve with the stop string",
        )
    if terminator == eos:
        return
    known = terminator in fmt.stages.declared
    level: Level = "note" if known else "warning"
    number = f" (id {ids[0]})" if len(ids) == 1 else ""
    of_eos = "the tokenizer names no EOS" if eos is None else f"tokenizer.eos_token is {shown(eos)}"
    yield Finding(
        level,
        "no-eos" if eos is None else "terminator-not-eos",
        f"{turn} ends in {shown(terminator)}{number}, but {of_eos}",
        "the terminator is trained; a server stops at it only if it is told"
        + (", as generation_config.json or stop= does" if known else ""),
        f"serve with generation_config.eos_token_id={list(fmt.stop.ids)}, or stop={list(fmt.stop.strings)}",
    )


def _second_stop(fmt: Formatter, marked: Marked, terminator: str) -> Iterator[Finding]:
    rest = marked.text[marked.trained[-1][1] :]
    second = [stop for stop in fmt.stop.strings if stop in rest]
    if second:
        yield Finding(
            "note",
            "second-stop",
            f"behind the terminator {shown(terminator)} the template writes {shown(second[0])} too",
            "the first one is trained and the second is not: the model never gets to write it",
            "",
        )


def _stops(fmt: Formatter) -> Finding:
    stop = fmt.stop
    strings = ", ".join(map(repr, stop.strings)) or "none"
    level: Level = "note" if stop.strings else "warning"
    whole = len(stop.ids) == len(stop.strings)
    return Finding(
        level,
        "stops",
        f"the stops are {strings}; as token ids {list(stop.ids)}",
        "serving must stop at the same" + ("" if whole else "; those that are not one token can only be stop strings"),
        "give your server fmt.stop.strings or fmt.stop.ids",
    )


def check_start(fmt: Formatter, example: Example, marked: Marked) -> Iterator[Finding]:
    """Findings about what the encoded probe begins with."""
    bos, bos_id = fmt.tokenizer.bos_token, fmt.tokenizer.bos_token_id
    row = fmt.stages.encoder(type(example)).encode([marked])[0]
    if not isinstance(row, EncodedRow):
        yield Finding("error", "not-encoded", f"a probe: {row.found}", f"expected {row.expected}", row.fix)
        return
    if bos_id is None:
        return
    count = next((place for place, id in enumerate(row.ids.tolist()) if id != bos_id), len(row.ids))
    adds = bos_id in fmt.vocabulary.prefix
    if count > 1:
        yield Finding(
            "warning",
            "bos-twice",
            f"a row begins with {count} BOS tokens {shown(bos)}",
            "expected one",
            "mend the template",
        )
    elif count and adds and marked.text.startswith(bos):
        yield Finding(
            "note",
            "bos-in-both",
            f"the template writes BOS {shown(bos)}, and the tokenizer puts one in front of any text",
            "here a row has one; whoever tokenizes the rendered text has two",
            "when you serve, tokenize rendered text with add_special_tokens=False",
        )
    elif not count and (adds or bos not in (fmt.vocabulary.eos, fmt.tokenizer.pad_token)):
        yield Finding(
            "warning" if adds else "note",
            "no-bos",
            f"the template writes no BOS; the tokenizer has {shown(bos)}"
            + (" and puts it in front of texts" if adds else ""),
            "rows begin without it, as apply_chat_template's do; models trained with BOS do worse without it",
            "if the model was trained with BOS, put {{ bos_token }} at the template's start, here and when you serve",
        )


def check_markers(fmt: Formatter, probes: Mapping[str, Marked], tail: str) -> Iterator[Finding]:
    """Markers of the template's headers that this tokenizer writes as several ordinary tokens."""
    literals = [tail]
    for marked in probes.values():
        literals += [
            marked.text[span.start : span.end]
            for span in marked.spans
            if span.kind == "literal" and (span.owner is not None or fmt.source.kind == "record")
        ]
    markers = dict.fromkeys(marker for text in literals for marker in SHOWN.findall(text))
    backend = fmt.vocabulary.backend
    split = {
        marker: pieces
        for marker in markers
        if len(pieces := backend.encode(marker, add_special_tokens=False).tokens) > 1
    }
    if not split:
        return
    first, pieces = next(iter(split.items()))
    foreign = [marker for marker in split if _CONTROL.fullmatch(marker) and not _own(fmt, marker)]
    yield Finding(
        "warning" if foreign else "note",
        "marker-not-a-token",
        f"the template's {', '.join(map(repr, split))} are no tokens of this tokenizer: {first!r} becomes "
        f"{shown(pieces)}",
        "expected one control token each; as ordinary text they work, but the model knows nothing of them, they cost "
        "tokens, and what a user types looks the same",
        _other_template(fmt, list(split)),
    )


def _own(fmt: Formatter, marker: str) -> bool:
    """Whether the tokenizer's own template has the marker: then its makers want it as it is."""
    return marker in (fmt.vocabulary.chat_template or "")


def _other_template(fmt: Formatter, markers: list[str]) -> str:
    own = fmt.vocabulary.chat_template
    add = f"tokenizer.add_special_tokens({{'additional_special_tokens': {markers}}}) and resize the embeddings"
    if own and fmt.source.text != own:
        return f"use the tokenizer's own template (template=None), or {add}"
    return f"use a template made for this tokenizer, or {add}"
