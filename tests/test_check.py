"""The doctor: small templates that each show one finding, and a clean bill of health for what ships."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
import small_tokenizers
from typer.testing import CliRunner

import instruct_fmt as ifmt
from instruct_fmt.cli import app
from instruct_fmt.embedded import records_path, sample_path
from instruct_fmt.errors import UsageError
from instruct_fmt.look.findings import Finding, Findings

GOLDEN = Path(__file__).parent / "golden" / "templates"
CHATML = small_tokenizers.CHATML
LOOP = "{% for m in messages %}"
PROMPT = "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
PARTS = LOOP + "<|im_start|>{{ m.role }}\n{% for p in m.content %}{{ p.text }}{% endfor %}<|im_end|>\n" + PROMPT
OUTSIDE = LOOP + TURN.replace("{{ m.content }}", "{% generation %}{{ m.content }}{% endgeneration %}") + PROMPT
CALLING = "<|im_start|>{{ m.role }}\n{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}<|im_end|>\n"


def golden(name: str) -> str:
    return (GOLDEN / f"{name}.jinja").read_text(encoding="utf-8")


def chat(*texts: str, system: str | None = None) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]
    return {"messages": [*([{"role": "system", "content": system}] if system else []), *messages]}


def doctor(template: str | None, tokenizer: str = "chatml", data: Any = None, **options: Any) -> Findings:
    return ifmt.compile(template, small_tokenizers.build(tokenizer), **options).check(data)


def found(findings: Findings, code: str) -> Finding:
    matching = [finding for finding in findings if finding.code == code]
    assert matching, f"{code} is not among {findings.codes}"
    return matching[0]


@pytest.mark.parametrize(("template", "path"), [(None, sample_path), ("alpaca", records_path)])
def test_what_ships_is_clean(template: str | None, path: Any) -> None:
    rows = [json.loads(line) for line in path().read_text(encoding="utf-8").splitlines()]
    findings = ifmt.compile(template, "embedded").check(rows)
    assert findings.ok
    assert {finding.level for finding in findings} == {"note"}, str(findings)


# Each: template, tokenizer, options, the finding's code and level, and words of it.
TEMPLATE_CASES: list[tuple[str, str | None, str, dict[str, Any], str, str, list[str]]] = [
    ("prompt", None, "chatml", {}, "generation-prompt", "note", ["<|im_start|>assistant\\n"]),
    (
        "prefill",
        golden("r1_distill_like"),
        "many",
        {},
        "generation-prompt",
        "note",
        ["'<think>'", "filled in for the model"],
    ),
    (
        "no prompt",
        LOOP + "<|{{ m.role }}|>\n{{ m.content }}</s>{% endfor %}",
        "many",
        {},
        "no-generation-prompt",
        "warning",
        ["'<|assistant|>\\n'", "it is trained"],
    ),
    (
        "no prompt needed",
        LOOP + "{{ '[INST]' + m.content + '[/INST]' if m.role == 'user' else m.content + '</s>' }}{% endfor %}",
        "many",
        {},
        "generation-prompt",
        "note",
        ["needs no generation prompt"],
    ),
    (
        "mismatch",
        golden("switch_cures_like"),
        "many",
        {},
        "prompt-mismatch:plain",
        "warning",
        ["<think>", "rows are rejected", "{'enable_thinking': False}"],
    ),
    (
        "mismatch kept",
        golden("switch_cures_like"),
        "many",
        {"prompt_mismatch": "as_rendered"},
        "prompt-mismatch:plain",
        "warning",
        ["trained from another start"],
    ),
    (
        "history",
        golden("qwen3_like"),
        "many",
        {},
        "history-rewritten:plain turns",
        "warning",
        ["1 of 1 earlier turns", "leaves such turns out", 'history="expand"'],
    ),
    (
        "reasoning history",
        golden("qwen3_like"),
        "many",
        {"history": "as_rendered"},
        "history-rewritten:reasoning turns",
        "warning",
        ["the model never writes"],
    ),
    (
        "expanded history",
        golden("qwen3_like"),
        "many",
        {"history": "expand"},
        "history-rewritten:plain turns",
        "note",
        ["one row of each turn"],
    ),
    ("drops reasoning", None, "chatml", {}, "drops:reasoning", "note", ["'thought'", "rows with it are rejected"]),
    (
        "drops reasoning as told",
        None,
        "chatml",
        {"allow_dropped": ["reasoning_content"]},
        "drops:reasoning",
        "note",
        ["as allow_dropped says"],
    ),
    ("knows no tools", golden("knows_no_tools"), "many", {}, "drops:tools", "note", ["nothing of it is in the text"]),
    ("refuses calls", golden("knows_no_tools"), "many", {}, "drops:call", "note", ["'probe'"]),
    (
        "drops tools",
        LOOP + CALLING + PROMPT,
        "chatml",
        {},
        "drops:tools",
        "warning",
        ["trained as if it were not there"],
    ),
    (
        "drops results",
        LOOP + "{% if m.role != 'tool' %}" + CALLING + "{% endif %}" + PROMPT,
        "chatml",
        {},
        "drops:result",
        "warning",
        ["a tool's result"],
    ),
    (
        "drops system",
        LOOP + "{% if m.role != 'system' %}" + TURN + "{% endif %}" + PROMPT,
        "chatml",
        {},
        "drops:system",
        "warning",
        ["a system message"],
    ),
    (
        "refuses system",
        LOOP + "{{ raise_exception('no system here') if m.role == 'system' else '' }}" + TURN + PROMPT,
        "chatml",
        {},
        "refuses:system",
        "note",
        ["no system here"],
    ),
    (
        "refuses all",
        "{{ raise_exception('never') if messages else '' }}",
        "chatml",
        {},
        "refuses-plain",
        "error",
        ["template-raised", "never"],
    ),
    (
        "clock",
        "{{ strftime_now('%d %b %Y') }}\n" + CHATML,
        "chatml",
        {"now": dt.datetime(2025, 1, 31)},
        "reads-the-clock",
        "note",
        ["2025-01-31"],
    ),
    ("parts", PARTS, "chatml", {}, "content-in-parts", "note", ["'type': 'text'"]),
]


@pytest.mark.parametrize(
    ("template", "tokenizer", "options", "code", "level", "words"),
    [pytest.param(*case, id=name) for name, *case in TEMPLATE_CASES],
)
def test_findings_about_templates(
    template: str | None, tokenizer: str, options: dict[str, Any], code: str, level: str, words: list[str]
) -> None:
    finding = found(doctor(template, tokenizer, **options), code)
    assert finding.level == level
    for word in words:
        assert word in f"{finding.what}\n{finding.why}\n{finding.fix}"


END_CASES: list[tuple[str, str | None, str, dict[str, Any], str, str, list[str]]] = [
    ("stops", None, "chatml", {}, "stops", "note", ["'<|im_end|>'", "as token ids ["]),
    (
        "not EOS",
        None,
        "chatml_eot_eos",
        {},
        "terminator-not-eos",
        "warning",
        ["'<|im_end|>' (id ", "tokenizer.eos_token is '<|endoftext|>'", "generation_config"],
    ),
    ("declared", None, "chatml_eot_eos", {"stop": "<|im_end|>"}, "terminator-not-eos", "note", ["stop= does"]),
    ("no EOS", None, "chatml_no_eos", {}, "no-eos", "warning", ["the tokenizer names no EOS"]),
    ("a call's own stop", golden("gpt_oss_like"), "many", {}, "terminator-not-eos", "warning", ["<|return|>"]),
    ("second stop", golden("phi3_like"), "many", {}, "second-stop", "note", ["'<|end|>'", "'</s>'"]),
    ("appended", golden("falcon_like"), "many", {}, "eos-appended", "note", ["'</s>' is appended"]),
    ("in the middle", golden("falcon_like"), "many", {}, "middle-turn-without-stop", "warning", ['stop="']),
    (
        "nothing ends it",
        golden("falcon_like"),
        "many",
        {"append_eos": "never"},
        "no-stop",
        "error",
        ['append_eos="never"'],
    ),
    ("left out of the loss", OUTSIDE, "chatml", {}, "no-stop", "error", ["outside of its {% generation %} block"]),
    ("nothing could", golden("falcon_like"), "chatml_no_eos", {}, "no-stop", "error", ["names no EOS"]),
    ("record", "Q: {question}\nA: {answer}", "chatml", {}, "eos-appended", "note", ["'<|im_end|>' is appended"]),
    ("record without", "Q: {question}\nA: {answer}", "chatml_no_eos", {}, "no-stop", "error", ["eos_token"]),
    ("record's prompt", "Q: {question}\nA: {answer}", "chatml", {}, "prompt", "note", ["\\nA:'"]),
    ("other tokenizer", CHATML, "llama3", {}, "marker-not-a-token", "warning", ["'<|im_start|>'", "template=None"]),
    ("its stop", CHATML, "llama3", {}, "stop-not-a-token", "warning", ["'<|im_end|>'", "ordinary tokens"]),
    ("a marker that is text", "llama2", "llama3", {}, "marker-not-a-token", "note", ["'[INST]'"]),
    ("BOS in both", None, "llama3", {}, "bos-in-both", "note", ["add_special_tokens=False"]),
    ("no BOS", CHATML, "llama3", {}, "no-bos", "warning", ["puts it in front of texts"]),
    ("no BOS, none added", CHATML, "many", {}, "no-bos", "note", ["'<s>'"]),
    ("BOS twice", "{{ bos_token }}" + small_tokenizers.LLAMA3, "llama3", {}, "bos-twice", "warning", ["2 BOS"]),
    ("pad is EOS", None, "chatml_pad_is_eos", {}, "pad-is-stop", "note", ["is EOS"]),
    ("no pad", golden("falcon_like"), "many", {}, "no-pad", "note", ["padded with EOS"]),
    ("neither", None, "chatml_no_eos", {}, "no-pad", "warning", ["set tokenizer.pad_token"]),
    ("adds EOS", None, "llama3_adds_eos", {}, "tokenizer-adds-end", "note", ["'<|eot_id|>'"]),
    ("not special", None, "chatml", {}, "added-not-special", "note", ["'<think>'", "ordinary text"]),
    ("offsets", "Q: {question}\nA: {answer}", "wordpiece", {}, "no-byte-lengths", "note", ["offsets"]),
    ("white space", "Q: {question}\nA: {answer}", "wordpiece", {}, "loses-white-space", "warning", ["same ids"]),
    ("unknown", "Q: {question}\nA: {answer}", "unigram", {}, "unknown-characters", "warning", ["'ж'", "<unk>"]),
]


@pytest.mark.parametrize(
    ("template", "tokenizer", "options", "code", "level", "words"),
    [pytest.param(*case, id=name) for name, *case in END_CASES],
)
def test_findings_about_ends_and_tokenizers(
    template: str | None, tokenizer: str, options: dict[str, Any], code: str, level: str, words: list[str]
) -> None:
    finding = found(doctor(template, tokenizer, **options), code)
    assert finding.level == level
    for word in words:
        assert word in f"{finding.what}\n{finding.why}\n{finding.fix}"


def test_each_terminator_is_named() -> None:
    ends = [finding.what for finding in doctor(golden("gpt_oss_like"), "many") if finding.code == "terminator-not-eos"]
    assert [what.split("'")[1] for what in ends] == ["<|return|>", "<|call|>"]


def test_turns_that_are_skipped_need_no_stop() -> None:
    """gpt-oss writes another stop into history; with `auto` these turns are not trained at all."""
    assert "middle-turn-without-stop" not in doctor(golden("gpt_oss_like"), "many").codes
    kept = doctor(golden("gpt_oss_like"), "many", history="as_rendered")
    assert "middle-turn-without-stop" in kept.codes


def test_a_tokenizer_without_a_template() -> None:
    findings = doctor(None, "sentencepiece")
    assert found(findings, "no-template").level == "warning"
    assert findings.ok


def test_ids_outside_of_the_model(tmp_path: Path) -> None:
    small_tokenizers.build("chatml").save_pretrained(tmp_path)
    highest = max(small_tokenizers.build("chatml").get_vocab().values())
    for size, codes in ((highest, 1), (highest + 1, 0)):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "vocab_size": size}))
        findings = ifmt.compile(None, str(tmp_path)).check()
        assert findings.codes.count("ids-outside-the-model") == codes
        assert findings.ok is not bool(codes)


def test_generation_config_declares_the_stop(tmp_path: Path) -> None:
    tokenizer = small_tokenizers.build("chatml_eot_eos")
    tokenizer.save_pretrained(tmp_path)
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [stop]}))
    finding = found(ifmt.compile(None, str(tmp_path)).check(), "terminator-not-eos")
    assert finding.level == "note"
    assert "as generation_config.json" in finding.why


# Data

LONG = "one two three " * 40


def test_a_sample_of_the_data() -> None:
    rows = [chat("Hi?", "Hello."), chat("Hi?", "Hello."), chat("a <|im_start|> b", "c"), chat("Hi?")]
    findings = doctor(None, data=rows)
    assert "messages (4 rows)" in found(findings, "format").what
    assert "1 of 4 (25.0%) rows spell control tokens" in found(findings, "control-tokens").what
    assert found(findings, "duplicates").what.startswith("1 of 3")
    rejected = found(findings, "rejected:no-trained-turn")
    assert rejected.level == "error"
    assert "row 3, $.messages" in rejected.what
    assert "max_rejected=0.01" in rejected.why
    assert not findings.ok
    assert found(doctor(None, data=rows, max_rejected=0.5), "rejected:no-trained-turn").level == "warning"
    assert "no max_length" in found(findings, "lengths").what
    assert "%" in found(findings, "trained-share").what


@pytest.mark.parametrize(
    ("policy", "level", "fate"),
    [
        ("drop", "warning", "3 dropped"),
        ("truncate", "warning", "2 answer cut, 1 dropped"),
        ("truncate_prompt", "warning", "2 dropped, 1 shortened"),
        ("error", "error", "stops at the first"),
    ],
)
def test_rows_that_are_too_long(policy: str, level: str, fate: str) -> None:
    rows = [chat("Hi?", "Hello."), chat("Hi?", LONG), chat("Who?", LONG), chat(LONG, "Hello.")]
    finding = found(doctor(None, data=rows, max_length=40, overlength=policy), "over-length")
    assert finding.level == level
    assert "3 of 4" in finding.what
    assert fate in finding.why


def test_what_the_template_leaves_out_of_the_data() -> None:
    silent = LOOP + "{% if m.role != 'system' %}" + TURN + "{% endif %}" + PROMPT
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
    rows = [chat("a", "b"), chat("a", "b", system="Be kind."), {**chat("a", "c"), "tools": [tool]}]
    findings = doctor(silent, data=rows)
    assert "1 of 3 (33.3%) rows have system messages" in found(findings, "unprinted:system-messages").what
    assert "such as row 2" in found(findings, "unprinted:tools").what
    assert not [code for code in doctor(None, data=rows[:2]).codes if code.startswith("unprinted")]


def test_turns_of_the_data() -> None:
    rows = [chat("a", "b", "c", "d")]
    skipped = found(doctor(golden("qwen3_like"), "many", rows), "turns-skipped")
    assert "1 of 2 (50.0%) assistant turns" in skipped.what
    assert "1 of 2" in found(doctor(golden("falcon_like"), "many", rows), "turns-without-stop").what
    kept = doctor(golden("switch_cures_like"), "many", rows, prompt_mismatch="as_rendered")
    assert found(kept, "prompt-mismatch").level == "warning"


def test_data_of_no_known_shape() -> None:
    finding = found(doctor(None, data=[{"colour": "red"}]), "data-unusable")
    assert finding.level == "error"
    assert "'colour'" in finding.what


@pytest.mark.parametrize("kind", ["dataset", "table", "list", "iterable"])
def test_kinds_of_data_and_the_spread_of_the_sample(kind: str) -> None:
    rows = [{"question": "a", "answer": f"b{number}"} for number in range(100)]
    rows[50] = {"question": "a", "answer": "<|im_end|>"}
    data: Any = {
        "dataset": lambda: datasets.Dataset.from_list(rows),
        "table": lambda: pa.Table.from_pylist(rows),
        "list": lambda: rows,
        "iterable": lambda: iter(rows),
    }[kind]()
    fmt = ifmt.compile("Q: {question}\nA: {answer}", small_tokenizers.build("chatml"))
    findings = fmt.check(data, rows=4)
    assert "record (4 rows)" in found(findings, "format").what
    assert ("control-tokens" in findings.codes) is (kind != "iterable")  # an iterable gives its first rows


def test_no_rows_and_wrong_arguments() -> None:
    fmt = ifmt.compile(None, small_tokenizers.build("chatml"))
    assert found(fmt.check([]), "no-rows").level == "error"
    assert found(fmt.check(pa.table({"text": pa.array([], pa.string())})), "no-rows").level == "error"
    for wrong in ({"train": []}, "file.json", 3, ["text"]):
        with pytest.raises(UsageError, match="expected a Dataset, a table or a list of rows"):
            fmt.check(wrong)
    with pytest.raises(UsageError, match="rows: found 0"):
        fmt.check(rows=0)


def test_checking_changes_nothing() -> None:
    fmt = ifmt.compile(None, small_tokenizers.fresh("chatml"))
    before = fmt.fingerprint, fmt.encode(chat("a", "b"))
    assert str(fmt.check([chat("a", "b")])) == str(fmt.check([chat("a", "b")]))
    assert (fmt.fingerprint, fmt.encode(chat("a", "b"))) == before


def test_findings_can_be_read_in_every_form() -> None:
    findings = doctor(golden("falcon_like"), "many", append_eos="never")
    levels = [finding.level for finding in findings]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    text = str(findings)
    assert text == findings.rich().plain
    assert "error: no-stop: no trained token ends an answer" in text
    assert findings.to_dict()["ok"] is False
    assert json.loads(json.dumps(findings.to_dict()))["findings"][0]["code"] == "no-stop"
    assert len(findings) == len(findings.to_dict()["findings"])
    page = doctor("<b>{question}</b> {answer}")._repr_html_()
    assert "<b>" not in page
    assert "<table>" in page


def test_the_command(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"question": "a", "answer": "b"}) + "\n", encoding="utf-8")
    config = tmp_path / "run.yaml"
    config.write_text("tokenizer: embedded\ntemplate: 'Q: {question}\n\n  A: {answer}'\ndatasets: data.jsonl\n")
    run = CliRunner()
    good = run.invoke(app, ["check", str(config)], catch_exceptions=False)
    assert good.exit_code == 0, good.stderr
    assert "0 errors" in good.stdout
    bad = run.invoke(app, ["check", str(config), "--set", "append_eos=never"], catch_exceptions=False)
    assert bad.exit_code == 1
    assert "error: no-stop" in bad.stdout
    wrong = run.invoke(app, ["check", str(config), "--set", "templat=x"], catch_exceptions=False)
    assert wrong.exit_code == 2
