"""What a chat template does to conversations: its prompt, its history, and the fields that it leaves out.

In: a `Bench`. Out: findings; each comes from a probe that was rendered.
"""

from __future__ import annotations

from collections.abc import Iterator

import jinja2

from instruct_fmt.doctor.findings import Finding, Level
from instruct_fmt.doctor.probes import Bench, prints_tools
from instruct_fmt.errors import RowError, shown
from instruct_fmt.template.label.policy import UNSERVED
from instruct_fmt.template.label.template_errors import PYTHON_ERRORS
from instruct_fmt.template.trace.helpers import ClockRead
from instruct_fmt.types import Marked

__all__ = ["check_template"]

_FIELDS = {"system": "system", "reasoning": "reasoning_content", "call": "tool_calls", "result": "tool"}
_WORDS = {
    "plain": "a question and its answer",
    "system": "a system message",
    "reasoning": "an answer with reasoning",
    "tools": "tools",
    "call": "a tool call",
    "result": "a tool's result",
    "plain turns": "plain answers",
    "reasoning turns": "answers with reasoning",
    "tool turns": "tool calls",
}


def check_template(bench: Bench) -> Iterator[Finding]:
    """Findings about the template alone."""
    plain = bench.mark("plain")
    if isinstance(plain, RowError):
        yield Finding(
            "error",
            "refuses-plain",
            f"{_WORDS['plain']}: {plain.reason}: {plain.found}",
            f"every chat template prints this; expected {plain.expected}",
            plain.fix,
        )
        return
    yield from _prompt(bench, plain)
    yield from _mismatches(bench)
    yield from _history(bench)
    yield from _fields(bench)
    yield from _clock(bench)
    if bench.template.renderer.form.parts:
        yield Finding(
            "note",
            "content-in-parts",
            "the template prints content only as a list of parts",
            "text content is handed to it as [{'type': 'text', 'text': …}]; a server must do the same",
            "send parts when you serve",
        )


def _prompt(bench: Bench, plain: Marked) -> Iterator[Finding]:
    """What stands between the question and the answer: supplied by the prompt, or trained."""
    tail = bench.tail()
    if tail is None:
        return
    header = _before_content(plain)
    if not tail.strip() and header.strip():
        yield Finding(
            "warning",
            "no-generation-prompt",
            f"the template ignores add_generation_prompt; {shown(header)} comes before the answer",
            "a server sends nothing of it, so the model must write it itself: it is trained, as part of each turn",
            "use a template with a generation prompt, or see that your server does not add the header",
        )
        return
    if not tail.strip():
        what = "the template needs no generation prompt: what goes before an answer is printed behind the question"
    else:
        what = f"the generation prompt ends with {shown(tail)}"
    filled = _prefill(bench, tail)
    prefill = f"; {shown(filled)} is filled in for the model, and not trained" if filled else ""
    yield Finding(
        "note", "generation-prompt", what + prefill, "serving must send the same; fmt.prompt(row) shows it", ""
    )


def _prefill(bench: Bench, tail: str) -> str:
    """What of the prompt's tail is no header: the header of an earlier turn goes without it."""
    turns = bench.mark("plain turns")
    if isinstance(turns, RowError):
        return ""
    start = min((span.start for span in turns.spans if span.owner == 1 and span.kind == "content"), default=0)
    before, header = turns.text[:start], tail
    while header.strip() and not before.endswith(header):
        header = header[:-1]
    return tail[len(header) :].strip() if header.strip() else ""


def _before_content(marked: Marked) -> str:
    """The trained literal text in front of the answer's own first character."""
    start = marked.trained[-1][0]
    own = min((span.start for span in marked.spans if span.start >= start and span.kind != "literal"), default=start)
    return marked.text[start:own]


_MISMATCHES: dict[str, tuple[Level, str]] = {
    "as_served": ("note", "the rows are made of the prompt and what the model must write behind it"),
    "error": ("warning", "such rows are rejected"),
    "as_rendered": ("warning", "such rows are trained from another start than serving's"),
}


def _mismatches(bench: Bench) -> Iterator[Finding]:
    """Kinds of conversation whose training text does not begin with their generation prompt."""
    policy = bench.fmt.settings.prompt_mismatch
    for name in ("plain", "reasoning", "call", "result"):
        served = bench.mark(name, prompt_mismatch="as_served")
        if isinstance(served, RowError):
            if served.reason in UNSERVED and not isinstance(bench.mark(name), RowError):
                yield _unserved(name, served, policy)
            continue
        error = bench.mark(name, prompt_mismatch="error")
        if isinstance(error, RowError) and error.reason == "prompt-not-prefix":
            level, fate = _MISMATCHES[policy]
            yield Finding(
                level,
                f"prompt-mismatch:{name}",
                f"{_WORDS[name]}: {error.found}",
                f"expected {error.expected}, as the model sees it when it is used; {fate}",
                "" if policy == "as_served" else error.fix,
            )


def _unserved(name: str, error: RowError, policy: str) -> Finding:
    """A kind of turn that the template cannot be asked for as it writes it."""
    fate = _MISMATCHES["error" if policy == "as_served" else policy][1]
    return Finding(
        "warning", f"unserved:{name}", f"{_WORDS[name]}: {error.found}", f"expected {error.expected}; {fate}", error.fix
    )


def _history(bench: Bench) -> Iterator[Finding]:
    """Kinds of turns that the template writes otherwise once other turns follow."""
    policy = bench.fmt.settings.history
    for name in ("plain turns", "reasoning turns", "tool turns"):
        marked = bench.mark(name, prompt_mismatch="as_served")
        if isinstance(marked, RowError) or not marked.counts.get("turns_skipped:history"):
            continue
        skipped, earlier = marked.counts["turns_skipped:history"], marked.counts["turns"] - 1
        harmless = policy == "expand" or bench.fmt.settings.train_on == "last"
        level: Level = "note" if harmless else "warning"
        yield Finding(
            level,
            f"history-rewritten:{name}",
            f"{_WORDS[name]}: {skipped} of {earlier} earlier turns of a probe read otherwise than as generated",
            f"history={policy!r} {_FATE[policy]}",
            "" if harmless else 'history="expand" makes one row of each turn, each as it is generated',
        )


_FATE = {
    "auto": "leaves such turns out of the loss, and counts them",
    "last": "leaves such turns out of the loss, and counts them",
    "as_rendered": "trains text that the model never writes",
    "expand": "makes one row of each turn, so all are trained as they are generated",
    "error": "rejects such rows",
}


def _fields(bench: Bench) -> Iterator[Finding]:
    """What the template refuses or leaves out, one kind of field after the other."""
    no_calls = isinstance(bench.mark("call"), RowError)
    for name in ("system", "reasoning", "tools", "call", "result"):
        outcome = bench.mark(name)
        if isinstance(outcome, RowError):
            outcome = bench.mark(name, prompt_mismatch="as_served")
        if isinstance(outcome, RowError):
            if name == "result" and no_calls:
                continue  # the call in it is named already
            yield _refused(bench, name, outcome)
        elif name == "tools" and not prints_tools(outcome):
            # A template without calls knows no tools either; whether the data has some, a sample of it tells.
            yield Finding(
                "note" if no_calls else "warning",
                f"drops:{name}",
                f"{_WORDS[name]}: nothing of it is in the text",
                "rows are trained as if it were not there, though the answer may refer to it",
                "use a template that prints it, or leave it out of the data",
            )


def _refused(bench: Bench, name: str, error: RowError) -> Finding:
    dropped = error.reason == "field-dropped"
    allowed = dropped and _FIELDS.get(name) in bench.fmt.settings.allow_dropped
    fate = "rows with it are trained without it, as allow_dropped says" if allowed else "rows with it are rejected"
    return Finding(
        "note",  # such rows are rejected by name; how many the data has, a sample of it tells
        f"{'drops' if dropped else 'refuses'}:{name}",
        f"{_WORDS[name]}: {error.reason}: {error.found}",
        f"expected {error.expected}; {fate}",
        "" if allowed else error.fix,
    )


def _clock(bench: Bench) -> Iterator[Finding]:
    """Whether a probe reads the clock: render it without one."""
    now = bench.fmt.settings.now
    for name in ("plain", "call") if now else ():
        scene = bench.template.scene(bench.conversations[name])
        try:
            variables = {**scene.variables, "add_generation_prompt": False}
            bench.template.renderer.template.trace_chat(list(scene.messages), variables, None)
        except ClockRead:
            yield Finding(
                "note",
                "reads-the-clock",
                f"the template prints the date; it is pinned to {now}",
                "every row shows this date; when you serve, the model sees another one",
                "use a date near the one of serving, or a template without one",
            )
            return
        except (jinja2.TemplateError, *PYTHON_ERRORS):
            continue  # named by the other checks
