"""A plan from a marked symbolic render."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from instruct_fmt.template.plan.plan import Place, Plan
from instruct_fmt.template.plan.recorder import PLACEHOLDER, Expression, Recorder
from instruct_fmt.template.plan.steps import BLANKS
from instruct_fmt.template.plan.symbolic import of_text
from instruct_fmt.template.plan.tokens_of_text import TokensOfText
from instruct_fmt.template.plan.unprinted import Unprinted, inside_tools
from instruct_fmt.template.trace.origins import Field
from instruct_fmt.types import Marked, Range

APPENDED = -2
"""In place of the turn of a trained range: it is an appended EOS."""


def make_plan(
    marked: Marked, recorder: Recorder, speaking: Collection[int], unread: Sequence[Unprinted], tokens: TokensOfText
) -> Plan | None:
    """The plan of a symbolic render; None where it cannot stand for other rows.

    Args:
        marked: the render, its text full of placeholders.
        recorder: what was recorded on the way.
        speaking: the messages, or columns, that must say something.
        unread: fields of the shape that are not printed.
        tokens: what to know about the tokenizer.
    """
    if tokens.written(marked):
        recorder.refused.append("a control token that the row must not write")
    elif not _whole(marked, recorder):
        recorder.refused.append("text of the row whose expression was lost")
    elif not _says_behind(marked):
        recorder.refused.append("a field behind an answer that says nothing")
    if recorder.refused:
        return None
    ends, end_ids = tokens.ends(marked, begins=_begins(marked, recorder, tokens))
    if recorder.refused:
        return None
    symbolic, marked, by = marked, with_ends(marked, *ends), len(ends[0])
    expressions = recorder.expressions()
    parts: list[str | Expression] = []
    places: dict[int, Place] = {}
    at = 0
    for match in PLACEHOLDER.finditer(marked.text):
        _literal(marked.text[at : match.start()], at, parts, places)
        places[match.start()] = (len(parts), 0)
        parts.append(expressions[match[0]])
        at = match.end()
        places[at] = (len(parts), 0)
    if any(step.name == "slice" for part in parts if isinstance(part, Expression) for step in part.steps):
        recorder.refused.append("a part of a text that is printed")
        return None
    _literal(marked.text[at:], at, parts, places)
    if _may_lose(parts, recorder, speaking):
        recorder.refused.append("words of an answer that are left out, where the template has the same")
        return None
    places[len(marked.text)] = (len(parts), 0)
    control = tokens.control(marked.text)
    seams = () if tokens.boundary == "joint" else marked.seams
    cuts = () if tokens.boundary == "joint" else marked.cuts
    tails = list(_tails(marked.text, [edge for seam in seams for edge in seam], control, tokens))
    if seams and tokens.crosses(marked.text, seams[-1][0], control):
        cuts = (*cuts, seams[-1][0])
    edges = {edge for part in (*marked.trained, *seams) for edge in part} | set(cuts) | {end for end, _ in control}
    edges |= {edge + by for part in symbolic.removable for edge in part}
    edges |= {edge for *part, _ in marked.weights for edge in part}
    if not parts or any(edge not in places for edge in edges):
        recorder.refused.append("a range that ends inside a field")
        return None
    return Plan(
        tuple(parts),
        tuple(recorder.guards),
        _spoken(parts, speaking),
        tuple((places[left], places[right]) for left, right in marked.trained),
        tuple(places[cut] for cut in cuts if 0 < cut < len(marked.text)),
        tuple(places[edge] for seam in seams for edge in seam),
        (*(_inside(part, seams) for part in marked.trained[: len(symbolic.trained)]), *([APPENDED] if ends[1] else [])),
        tuple(tails),
        tuple((places[left + by], places[right + by]) for left, right in symbolic.removable),
        tuple((places[left + by], places[right + by]) for left, right, says in symbolic.from_row if says),
        tuple((places[end], id) for end, id in control),
        ends,
        end_ids,
        tuple(unread),
        inside_tools(parts),
        tuple(_segments(symbolic.text, expressions)),
        symbolic,
        tuple((places[left], places[right]) for left, right, _ in marked.weights),
        tuple(weight for *_, weight in marked.weights),
    )


def _may_lose(parts: Sequence[str | Expression], recorder: Recorder, speaking: Collection[int]) -> bool:
    """Whether rows of this plan may leave out words of an answer where this one does not, as far as anybody can tell:
    what is left out counts as there where the template's own text has it, which in other rows it may not."""
    literals = "\0".join(part for part in parts if isinstance(part, str))
    printed = [part for part in parts if isinstance(part, Expression)]
    for expression, placeholder in recorder.placeholders.items():
        field, steps = expression.field, expression.steps
        if field.place not in speaking or not steps:
            continue
        there = any(part.field == field and part.steps[: len(steps)] == steps for part in printed)
        name, args = steps[-1]
        if name == "strip" and there and set(args[1]) - set(BLANKS):
            return True
        words = recorder.actual(placeholder).strip()
        if name in ("piece", "in_block") and not there and words and words in literals:
            return True
    return False


def _says_behind(marked: Marked) -> bool:
    """Whether the fields behind answers say something, which becomes a guard: where they do not, a stop that stands
    behind them is the answer's, or the text ends with it and EOS is added."""
    fields = [match.span() for match in PLACEHOLDER.finditer(marked.text)]
    stops = {end for _, end in fields}
    for _, end in marked.trained:
        behind = next((marked.text[start:stop] for start, stop in fields if start >= end), "")
        if end in stops and behind and not of_text(behind):
            return False
    last = marked.trained[-1][1] if marked.trained else len(marked.text)
    return not PLACEHOLDER.search(marked.text, last) or bool(of_text(marked.text[last:]).strip())


def _begins(marked: Marked, recorder: Recorder, tokens: TokensOfText) -> bool:
    """Whether the text begins with BOS already; where a row may say so, that is a guard."""
    if not marked.bos or not tokens.bos:
        return False
    begins = of_text(marked.text).startswith(tokens.before or tokens.name(tokens.bos[0]))
    if begins and tokens.before is None and PLACEHOLDER.match(marked.text):
        recorder.refused.append("a row that writes BOS itself")
    return begins


def _inside(part: Range, seams: Sequence[Range]) -> int:
    """The turn that a trained range belongs to; -1 for none."""
    number = bisect_right(seams, part[0], key=lambda seam: seam[0]) - 1
    return number if number >= 0 and part[1] <= seams[number][1] else -1


def _tails(
    text: str, edges: Sequence[int], control: Sequence[tuple[int, int]], tokens: TokensOfText
) -> Iterator[tuple[int, ...] | None]:
    """For each end of a turn the ids of the literal text in front of it, since the last control token; none in front of
    such a token, None where the text is not literal."""
    starts = {end - len(tokens.name(id)) for end, id in control}
    for edge in edges:
        if edge in starts or edge == len(text):
            yield ()
            continue
        number = bisect_right(control, edge, key=lambda found: found[0]) - 1
        last, id = control[number] if number >= 0 else (0, None)
        before = text[last:edge]
        yield None if PLACEHOLDER.search(before) else tuple(tokens.after(id, before))


def _segments(text: str, expressions: Mapping[str, Expression]) -> Iterator[tuple[int, str | Expression]]:
    """Literals and expressions of a symbolic render, and where each begins; at last, its end."""
    at = 0
    for match in PLACEHOLDER.finditer(text):
        if match.start() > at:
            yield at, text[at : match.start()]
        yield match.start(), expressions[match[0]]
        at = match.end()
    if at < len(text):
        yield at, text[at:]
    yield len(text), ""


def with_ends(marked: Marked, before: str, behind: str) -> Marked:
    """The row with text in front of it and, trained, behind it."""
    by, size = len(before), len(before) + len(marked.text)
    trained = [(start + by, end + by) for start, end in marked.trained]
    if behind:
        trained.append((size, size + len(behind)))
    cuts = tuple(cut + by for cut in marked.cuts)
    seams = tuple((start + by, end + by) for start, end in marked.seams)
    weights = [(start + by, end + by, weight) for start, end, weight in marked.weights]
    if behind and marked.eos_weight != 1:
        weights.append((size, size + len(behind), marked.eos_weight))
    text = before + marked.text + behind
    return replace(marked, text=text, trained=tuple(trained), cuts=cuts, seams=seams, weights=tuple(weights))


def _spoken(parts: Sequence[str | Expression], speaking: Collection[int]) -> tuple[Field, ...]:
    """The last field that is printed of each message, or column, that must say something."""
    printed = (part.field for part in parts if isinstance(part, Expression) and part.field.place in speaking)
    return tuple({field.place: field for field in printed}.values())


def _literal(text: str, start: int, parts: list[str | Expression], places: dict[int, Place]) -> None:
    if not text:
        return
    size = 0
    for number, char in enumerate(text):
        places[start + number] = (len(parts), size)
        size += len(char.encode())
    parts.append(text)


def _whole(marked: Marked, recorder: Recorder) -> bool:
    """Whether all text of the row is whole placeholders that are known: nothing lost its expression on the way."""
    known, inside = recorder.expressions(), 0
    for start, end, _ in marked.from_row:
        text = marked.text[start:end]
        if any(match not in known for match in PLACEHOLDER.findall(text)):
            return False
        inside += len(PLACEHOLDER.findall(text))
        literals = [part for part in PLACEHOLDER.split(text) if part]
        if not all(any(part in literal for literal in recorder.literals) for part in literals):
            return False
    return inside == len(PLACEHOLDER.findall(marked.text))
