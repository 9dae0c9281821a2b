"""The doctor: small templates that each show one finding, and a clean bill of health for what ships.

Every entry of golden/check/*.yaml is one test: a template (a name, {file: …}, {text: …}; left out = the tokenizer's
own), a tokenizer of small_tokenizers.BUILDERS (default chatml), further options of `compile`; the finding's code and
level, and words that it says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
import small_tokenizers
import yaml
from typer.testing import CliRunner

import instruct_fmt as ifmt
from instruct_fmt.cli import app
from instruct_fmt.doctor.findings import Finding, Findings
from instruct_fmt.embedded import records_path, sample_path
from instruct_fmt.errors import UsageError

GOLDEN = Path(__file__).parent / "golden"
# A template that leaves system messages out, and says nothing.
SILENT = (
    "{% for m in messages %}{% if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LONG = "one two three " * 40


def golden(name: str) -> str:
    return (GOLDEN / "templates" / f"{name}.jinja").read_text(encoding="utf-8")


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


def cases() -> Iterator[Any]:
    for path in sorted((GOLDEN / "check").glob("*.yaml")):
        for case in yaml.safe_load(path.read_text(encoding="utf-8")):
            yield pytest.param(case, id=f"{path.stem}/{case['id']}")


@pytest.mark.parametrize("case", list(cases()))
def test_golden_findings(case: dict[str, Any]) -> None:
    template = case.get("template")
    if isinstance(template, dict):
        template = template["text"] if "text" in template else golden(template["file"].removesuffix(".jinja"))
    findings = doctor(template, case.get("tokenizer", "chatml"), **case.get("options", {}))
    finding = found(findings, case["code"])
    assert finding.level == case["level"]
    for words in case["says"]:
        assert words in f"{finding.what}\n{finding.why}\n{finding.fix}"


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
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
    rows = [chat("a", "b"), chat("a", "b", system="Be kind."), {**chat("a", "c"), "tools": [tool]}]
    refused = found(doctor(SILENT, data=rows), "rejected:field-dropped")
    assert "1 of 3 (33.3%) rows rejected; row 1, $.messages[0].content" in refused.what
    findings = doctor(SILENT, data=rows, allow_dropped=["system"])
    system = found(findings, "unread:$.messages[system].content")
    assert "in 1 of 3 (33.3%) rows, such as 'Be kind.' in row 1" in system.what
    assert "in row 2" in found(findings, "unread:$.tools").what
    assert not [code for code in doctor(None, data=rows[:2]).codes if code.startswith("unread")]


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
    make: dict[str, Callable[[Any], Any]] = {
        "dataset": datasets.Dataset.from_list,
        "table": pa.Table.from_pylist,
        "list": list,
        "iterable": iter,
    }
    fmt = ifmt.compile("Q: {question}\nA: {answer}", small_tokenizers.build("chatml"))
    findings = fmt.check(make[kind](rows), rows=4)
    assert "record (4 rows)" in found(findings, "format").what
    assert ("control-tokens" in findings.codes) is (kind != "iterable")  # an iterable gives its first rows


def test_no_rows_and_wrong_arguments() -> None:
    fmt = ifmt.compile(None, small_tokenizers.build("chatml"))
    assert found(fmt.check([]), "no-rows").level == "error"
    assert found(fmt.check(pa.table({"text": pa.array([], pa.string())})), "no-rows").level == "error"
    wrong: Any
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
