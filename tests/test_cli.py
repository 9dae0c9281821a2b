"""The command line: every configuration in `configs/` runs; what does not fit gives one message and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from typer.testing import CliRunner, Result

from instruct_fmt.cli import app
from instruct_fmt.embedded import sample_path, tokenizer_path
from instruct_fmt.version import __version__

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
ROW = {"instruction": "Say hello.", "input": "", "output": "Hello!"}
RECORDS: dict[str, Any] = {"tokenizer": "embedded", "template": "alpaca", "datasets": "data.jsonl"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def config(folder: Path, rows: list[Any] | str = "", **keys: Any) -> Path:
    """A configuration file beside the data `rows`, both written now."""
    text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "data.jsonl").write_text(text, encoding="utf-8")
    (folder / "run.yaml").write_text(yaml.safe_dump({**RECORDS, **keys}), encoding="utf-8")
    return folder / "run.yaml"


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A new Python process with this one's modules and cache."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HF_DATASETS_CACHE": str(datasets.config.HF_DATASETS_CACHE),
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: str(path.stem))
def test_every_config_runs(path: Path, tmp_path: Path) -> None:
    done = run("prepare", path, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if not line.startswith("left to the trainer: ")]
    assert (told, len(done.stderr.splitlines())) == ([], path.stem == "axolotl_keys")
    assert " 0 rejected, 0 over max_length" in done.stdout
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert set(manifest["parts"]) == {"template", "tokenizer", "options", "data", "version", "output"}
    assert set(manifest["versions"]) >= {"instruct_fmt", "transformers", "tokenizers", "datasets", "jinja2"}
    assert manifest["counts"]["trained_tokens"] > 0
    assert run("preview", path, "--rows", 1).exit_code == 0


def test_text_under_the_tokenizers_own_template_needs_a_word(tmp_path: Path) -> None:
    path = config(tmp_path, [{"prompt": "Say hello.", "completion": "Hello!"}], template=None)
    for command in ("prepare", "preview", "render"):
        done = run(command, path)
        assert done.exit_code == 2
        assert 'format="instruction"' in done.stderr
        assert 'format="prompt_completion"' in done.stderr
    assert "data-unusable" in run("check", path).stdout
    done = run("check", path, "--set", "datasets.0.type=instruct")
    assert "read as instruction" in done.stdout
    assert "user\nSay hello." in run("render", path, "--set", "format=instruction").stdout
    assert run("render", path, "--set", "format=prompt_completion").stdout == "Say hello.Hello!\n"


def test_embedded_default(tmp_path: Path) -> None:
    (tmp_path / "embedded").mkdir()
    for arguments in [("prepare",), ("prepare", "embedded")]:
        done = run(*arguments)
        assert done.exit_code == 0, done.stderr
        rows = len(sample_path().read_text(encoding="utf-8").splitlines())
        assert f"embedded: {rows} rows in, {rows} emitted" in done.stdout
    assert "cache hit" in done.stdout


def test_set_and_force(tmp_path: Path) -> None:
    path = config(tmp_path, [ROW] * 3)
    done = run("prepare", path, "--set", "output.path=out", "--set", "output.format=parquet", "--num-proc", 1)
    assert done.exit_code == 0, done.stderr
    assert [file.name for file in (tmp_path / "out" / "data").iterdir()] == ["train-00000-of-00001.parquet"]
    again = ("prepare", path, "--set", "output={path: out, format: parquet}")
    assert "cache hit" in run(*again).stdout
    assert "miss: made again as asked" in run(*again, "--force").stdout


def test_second_process_hits_the_cache(tmp_path: Path) -> None:
    path = config(tmp_path, [ROW] * 3, template="Q: {instruction}\nA: {output}")
    assert "miss: nothing prepared from this before" in run("prepare", path).stdout
    done = process("-m", "instruct_fmt.cli", "prepare", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "cache hit" in done.stdout
    changed = run("prepare", path, "--set", "template='Q: {instruction}\nB: {output}'")
    assert "miss: template changed" in changed.stdout


def bad_inputs(folder: Path) -> dict[str, tuple[dict[str, Any], list[Any] | str, int, list[str]]]:
    """Each: keys of the configuration, data, exit code, and parts of the message."""
    plain = tmp_tokenizer(folder)
    raising = "{{ raise_exception('no') if instruction else '' }}{{ output }}"
    broken = '{"instruction": "a", "input": "", "output": "b"}\n{"instruction": \n'
    chat = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}]
    return {
        "unknown column": ({"columns": {"output": "reply"}}, [ROW], 2, ["'reply'", "'instruction'"]),
        "missing column": ({}, [{"text": "x"}], 2, ["'instruction'", "'text'"]),
        "template raises": ({"template": raising}, [ROW], 1, ["template-raised", "row 0"]),
        "template broken": ({"template": "{% for x in %}{{ output }}"}, [ROW], 2, ["template"]),
        "null": ({}, [ROW, {**ROW, "output": None}], 1, ["row 1", "$.output", "null"]),
        "empty file": ({}, "", 1, ["data.jsonl", "an empty file"]),
        "no rows": ({}, "\n", 1, ["data.jsonl", "no rows"]),
        "broken line": ({}, broken, 1, ["data.jsonl, line 2", "one object per line"]),
        "no chat template": ({"template": None, "tokenizer": plain}, chat, 2, ["chat template"]),
        "no tokenizer": ({"tokenizer": str(folder / "nowhere")}, [ROW], 2, ["nowhere"]),
        "max_length": ({"max_length": 0}, [ROW], 2, ["max_length: found 0", "greater than 0"]),
        "unknown key": ({"max_lenght": 5}, [ROW], 2, ["max_lenght", "did you mean `max_length`?"]),
        "unknown template": ({"template": "alpacca"}, [ROW], 2, ["alpacca", "alpaca"]),
        "no data file": ({"datasets": "other.jsonl"}, [ROW], 2, ["other.jsonl", "no such file"]),
        "nothing fits": ({"max_length": 3}, [ROW], 1, ["no token to train", "over-length: 1 rows"]),
    }


def tmp_tokenizer(folder: Path) -> str:
    """The embedded tokenizer without its chat template."""
    plain = folder / "plain"
    plain.mkdir(exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (plain / name).write_bytes((tokenizer_path() / name).read_bytes())
    return str(plain)


CASES = (
    "unknown column", "missing column", "template raises", "template broken", "null", "empty file", "no rows",
    "broken line", "no chat template", "no tokenizer", "max_length", "unknown key", "unknown template",
    "no data file", "nothing fits",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("prepare", config(tmp_path, [ROW] * 2), "-o", out).exit_code == 0
    before = contents(out)
    cases = bad_inputs(tmp_path)
    assert tuple(cases) == CASES
    keys, rows, code, parts = cases[case]
    done = run("prepare", config(tmp_path, rows, **keys), "-o", out)
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr, part
    assert contents(out) == before
    assert not list(tmp_path.glob(".out.*"))


def test_bad_input_in_a_real_process(tmp_path: Path) -> None:
    path = config(tmp_path, [{**ROW, "output": None}])
    done = process("-m", "instruct_fmt.cli", "prepare", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: found 1 of 1 rows rejected")
    assert "Traceback" not in done.stderr


def test_usage(tmp_path: Path) -> None:
    for arguments in [("prepair",), ("prepare", "--nmu-proc", "2"), ("prepare", "nowhere.yaml"), ("prepare", tmp_path)]:
        done = run(*arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr
    nowhere = run("prepare", "nowhere.yaml").stderr
    assert nowhere.startswith("error: nowhere.yaml: found no such file or directory; expected ")
    assert "; fix: " in nowhere
    blocked = run("prepare", config(tmp_path, [ROW]), "-o", tmp_path / "data.jsonl" / "out")
    assert blocked.exit_code == 2
    assert "data.jsonl" in blocked.stderr


def test_preview(tmp_path: Path) -> None:
    path = config(tmp_path, [ROW, {**ROW, "output": None}, {**ROW, "output": "Good day!"}])
    done = run("preview", path)
    assert done.exit_code == 0
    assert done.stdout.startswith("legend: trained masked")
    assert "Hello!" in done.stdout
    assert "row 2" in done.stdout
    assert "rejected: row 1, $.output: null-field" in done.stderr
    alone = run("preview", path, "--row", 2)
    assert "Good day!" in alone.stdout
    assert "Hello!" not in alone.stdout
    refused = run("preview", path, "--row", 1)
    assert (refused.exit_code, refused.stderr[:40]) == (1, "error: row 1, $.output: null-field: foun")
    assert run("preview", path, "--row", 3).exit_code == 2


def test_preview_in_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "linux")
    coloured = run("preview", config(tmp_path, [ROW]), "--rows", 1).stdout
    assert "\x1b[" in coloured
    assert "48;5;" in coloured


def test_render(tmp_path: Path) -> None:
    template = "USER: {instruction}\n{input}\nASSISTANT: {output}"
    path = config(tmp_path, [ROW, {**ROW, "input": "[/bold] {output}"}], template=template)
    assert run("render", path, "--row", 1).stdout == ("USER: Say hello.\n[/bold] {output}\nASSISTANT: Hello!\n")
    assert run("render", path, "--prompt").stdout == "USER: Say hello.\n\nASSISTANT:\n"
    assert run("render", path, "--row", 2).exit_code == 2
    assert run("render", path, "--dataset", 1).exit_code == 2


def test_templates() -> None:
    listed = run("templates", "list")
    assert listed.exit_code == 0
    assert {line.split()[0] for line in listed.stdout.splitlines()} >= {"alpaca", "user_assistant", "chatml"}
    assert "### Response:" in run("templates", "show", "alpaca").stdout
    unknown = run("templates", "show", "alpacca")
    assert unknown.exit_code == 2
    assert "alpaca" in unknown.stderr


def test_help_is_quick() -> None:
    code = "import sys, instruct_fmt.cli; print({'datasets', 'transformers', 'pandas', 'yaml'} & {*sys.modules})"
    assert process("-c", code).stdout.strip() == "set()"


def test_the_version_is_told() -> None:
    assert process("-m", "instruct_fmt", "--version").stdout == f"instruct_fmt {__version__}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
@pytest.mark.parametrize("command", [["--help"], ["templates", "list"], ["prepare"]])
def test_output_that_cannot_be_written(command: list[str]) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [sys.executable, "-m", "instruct_fmt.cli", *command], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr.startswith("error: found no space left on device; expected ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX closes the streams")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(tmp_path: Path, closed: str) -> None:
    command = f"{sys.executable} -m instruct_fmt.cli prepare embedded -o {tmp_path / 'out'} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_names_with_control_characters_are_shown_as_such() -> None:
    done = run("prepare", "a\x1b[31mb.yaml")
    assert "a\\x1b[31mb.yaml: found no such file" in done.stderr
    assert "\x1b" not in done.stderr
