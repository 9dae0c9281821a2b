"""The judge of "as served" itself: rows made by hand are right, and wrong ones are found out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from served import Row, Run, judge_expanded, judge_row
from served_rows import KINDS
from served_scene import Scene, in_parts, unprinted
from transformers import PreTrainedTokenizerFast

BODY = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.reasoning_content is defined %}{{ '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
)
PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
OPEN = PROMPT.replace("assistant\n", "assistant\n<think>\n")
USERS = PROMPT.replace("assistant", "user")
HEADER = PROMPT.replace("{{ '<|im_start|>assistant\n' }}", "")
GUARD = BODY.replace("m.content +", "m.content + ('\nIs that safe' if m.role == 'assistant' else '') +") + PROMPT


def _scene(tokenizer: PreTrainedTokenizerFast, kind: str, template: str = BODY + PROMPT) -> Scene:
    return Scene(tokenizer, template, KINDS[kind].messages, None, {})


def _row(scene: Scene, parts: Sequence[tuple[str, bool]]) -> Row:
    """A row of texts that are encoded apart, trained or not."""
    ids: list[int] = []
    labels: list[int] = []
    for text, trained in parts:
        more = scene.tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += more
        labels += more if trained else [-100] * len(more)
    return Row(ids, labels)


def _plain(scene: Scene, answer: str, tail: str = "\n") -> Row:
    asked = scene.prompt(1)
    assert asked is not None
    return _row(scene, [(asked[0], False), (answer, True), (tail, False)])


def _kinds(problems: Sequence[str]) -> list[str]:
    return [problem.split(":")[0] for problem in problems]


def test_right(chatml: PreTrainedTokenizerFast) -> None:
    scene = _scene(chatml, "plain")
    row = _plain(scene, "Quiet Brackwater, by sandy dunes<|im_end|>")
    found = judge_row(scene, row)
    assert (found.problems, found.stopless, [run.turn for run in found.runs]) == ([], 0, [1])
    assert judge_expanded(scene, row).problems == []


def test_right_turns(chatml: PreTrainedTokenizerFast) -> None:
    """Each turn stands behind its own prompt."""
    scene = _scene(chatml, "system")
    first, second = scene.prompt(2), scene.prompt(4)
    assert first is not None
    assert second is not None
    answers = "Quiet Brackwater, by sandy dunes<|im_end|>", "Old Hesketh polishes lenses<|im_end|>"
    between = second[0].removeprefix(first[0] + answers[0])
    row = _row(scene, [(first[0], False), (answers[0], True), (between, False), (answers[1], True), ("\n", False)])
    found = judge_row(scene, row)
    assert (found.problems, [run.turn for run in found.runs]) == ([], [2, 4])
    assert _kinds(judge_expanded(scene, row).problems) == ["expanded"]


@pytest.mark.parametrize(
    ("answer", "tail", "expected"),
    [
        ("Quiet Brackwater, by sandy dunes<|im_end|>\n", "", []),  # the line break may share the stop's token
        ("Quiet Brackwater, by sandy", " dunes<|im_end|>\n", ["fields"]),
        ("by sandy dunes Quiet Brackwater<|im_end|>", "\n", ["fields"]),
        (
            "Quiet Brackwater, by sandy dunes<|im_end|>trawlers<|im_end|>",
            "",
            ["foreign", "behind", "behind", "history"],
        ),
        ("Assistant: Quiet Brackwater, by sandy dunes<|im_end|>", "\n", ["header", "history"]),
        ("Quiet Brackwater, by sandy dunes<|im_end|><|im_end|>", "\n", ["behind", "history"]),
        ("Quiet Brackwater, by sandy dunes\n<|im_end|>", "\n", ["history"]),
        ("Quiet Brackwater, by sandy dunes<|im_end|>", "", ["parity"]),
        ("<think>\n\n</think>\n\nQuiet Brackwater, by sandy dunes<|im_end|>", "\n", ["history"]),
        ("<think>\n\nQuiet Brackwater, by sandy dunes</think><|im_end|>", "\n", ["block", "history"]),
    ],
)
def test_wrong(chatml: PreTrainedTokenizerFast, answer: str, tail: str, expected: list[str]) -> None:
    scene = _scene(chatml, "plain")
    assert _kinds(judge_row(scene, _plain(scene, answer, tail)).problems) == expected


def test_wrong_start(chatml: PreTrainedTokenizerFast) -> None:
    """One token less or more behind the prompt, or a prompt with another id in it."""
    scene = _scene(chatml, "plain")
    right = _plain(scene, "Quiet Brackwater, by sandy dunes<|im_end|>")
    start = next(place for place, label in enumerate(right.labels) if label != -100)
    late = replace(right, labels=[*right.labels[:start], -100, *right.labels[start + 1 :]])
    early = replace(right, labels=[*right.labels[: start - 1], *right.ids[start - 1 : start], *right.labels[start:]])
    other = replace(right, ids=[right.ids[0], right.ids[0], *right.ids[2:]])
    for row in (late, early, other):
        assert _kinds(judge_row(scene, row).problems) == ["start"]
    assert "labels" in _kinds(
        judge_row(scene, replace(right, labels=[0] * start + list(right.labels[start:]))).problems
    )


def test_no_stop(chatml: PreTrainedTokenizerFast) -> None:
    """An answer without a stop is told apart, for the package to count."""
    scene = _scene(chatml, "plain")
    assert judge_row(scene, _plain(scene, "Quiet Brackwater, by sandy dunes", "<|im_end|>\n")).stopless == 1


@pytest.mark.parametrize(
    ("template", "answer", "expected"),
    [
        (BODY + OPEN, "Quiet Brackwater, by sandy dunes<|im_end|>", ["block"]),
        (BODY + OPEN, "\n</think>\n\nQuiet Brackwater, by sandy dunes<|im_end|>", []),
        (BODY + OPEN, "<think>\n</think>\n\nQuiet Brackwater, by sandy dunes<|im_end|>", ["block"]),
        (BODY + USERS, "Quiet Brackwater, by sandy dunes<|im_end|>", ["asked"]),
        (BODY + HEADER, "<|im_start|>assistant\nQuiet Brackwater, by sandy dunes<|im_end|>", ["header"]),
        (GUARD, "Quiet Brackwater, by sandy dunes\nIs that safe<|im_end|>", ["behind"]),
    ],
)
def test_prompts(chatml: PreTrainedTokenizerFast, template: str, answer: str, expected: list[str]) -> None:
    """What a prompt opens, and whom it asks for."""
    scene = _scene(chatml, "plain", template)
    assert _kinds(judge_row(scene, _plain(scene, answer)).problems) == expected


@pytest.mark.parametrize(
    ("template", "answer", "expected"),
    [
        (BODY + PROMPT, "<think>\nR\n</think>\n\nA<|im_end|>", []),
        (BODY + OPEN, "R\n</think>\n\nA<|im_end|>", []),
        (BODY + OPEN, "<think>\nR\n</think>\n\nA<|im_end|>", ["block", "history"]),
        (BODY + OPEN.replace("<think>\n", "<think>\n</think>\n"), "R A<|im_end|>", ["block"]),
        (BODY + PROMPT, "A\n<think>\nR\n</think><|im_end|>", ["fields"]),
    ],
)
def test_thoughts(chatml: PreTrainedTokenizerFast, template: str, answer: str, expected: list[str]) -> None:
    """Thoughts are where the prompt and the completion have a block for them."""
    messages = [KINDS["reasoning twice"].messages[0], KINDS["reasoning twice"].messages[1]]
    scene = Scene(chatml, template, messages, None, {})
    full = answer.replace("R", messages[1]["reasoning_content"]).replace("A<", messages[1]["content"] + "<")
    full = full.replace("A\n", messages[1]["content"] + "\n")
    assert _kinds(judge_row(scene, _plain(scene, full)).problems) == expected


def test_dropped(chatml: PreTrainedTokenizerFast) -> None:
    """What a template leaves out of another message."""
    template = "{% for m in messages if m.role != 'system' %}{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    messages = [*KINDS["system"].messages[:3]]
    scene = Scene(chatml, template, messages, None, {})
    asked = scene.prompt(2)
    assert asked is not None
    row = _row(scene, [(asked[0], False), ("Quiet Brackwater, by sandy dunes<|im_end|>", True), ("\n", False)])
    assert _kinds(judge_row(scene, row).problems) == ["dropped"]
    assert unprinted(scene, [0, 1, 2]) == ["Speak like gruff sailors"]


def test_joined_turns(chatml: PreTrainedTokenizerFast) -> None:
    """Two turns with nothing between them are one run, and two answers."""
    messages = [KINDS["plain"].messages[0], KINDS["plain"].messages[1], KINDS["three turns"].messages[3]]
    scene = Scene(chatml, "{% for m in messages %}{{ m.content + '<|im_end|>' }}{% endfor %}", messages, None, {})
    asked = scene.prompt(1)
    assert asked is not None
    answers = "Quiet Brackwater, by sandy dunes<|im_end|>Old Hesketh polishes lenses<|im_end|>"
    row = _row(scene, [(asked[0], False), (answers, True)])
    found = judge_row(scene, row)
    assert [run.turn for run in found.runs] == [1, 2]
    assert isinstance(found.runs[0], Run)


def test_parts() -> None:
    assert in_parts({"role": "user", "content": "a"}) == {"role": "user", "content": [{"type": "text", "text": "a"}]}
