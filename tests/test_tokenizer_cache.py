"""What is kept of a tokenizer is what transformers makes of its folder, and nothing is kept that may be stale."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from instruct_fmt import embedded
from instruct_fmt.errors import TokenizerError
from instruct_fmt.tokenizer import cache as tokenizer_cache
from instruct_fmt.tokenizer import loading as tokenizer
from instruct_fmt.tokenizer.loading import load_tokenizer, load_vocabulary
from instruct_fmt.tokenizer.vocabulary import Vocabulary

PROGRAM = """
import sys
import instruct_fmt as ifmt
fmt = ifmt.compile("Q: {question} A: {answer}", sys.argv[1])
print(fmt.encode({"question": "One?", "answer": "Two."}), fmt.fingerprint, "transformers" in sys.modules)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(embedded.tokenizer_path(), tmp_path / "tokenizer"))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(tokenizer_cache.VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_the_next_process_needs_no_transformers(folder: Path, kept: Path) -> None:
    lines = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(folder)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "INSTRUCT_FMT_CACHE": kept_in},
        ).stdout.rsplit(" ", 1)
        for kept_in in (str(kept), str(kept), "off")
    ]
    assert [imported.strip() for _, imported in lines] == ["True", "False", "True"]
    assert len({line for line, _ in lines}) == 1


def check_read(folder: Path, wanted: Vocabulary) -> None:
    found = tokenizer_cache.read(folder)
    assert found is not None
    assert asdict(found.contents) == asdict(wanted.contents)
    assert found.digest == wanted.digest


def test_what_is_kept_is_what_transformers_makes(folder: Path, kept: Path) -> None:
    assert tokenizer_cache.read(folder) is None
    load_vocabulary(folder)
    check_read(folder, Vocabulary.of(load_tokenizer(folder)))
    assert [path.suffix for path in kept.iterdir()] == [".tokenizer"]


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "processor_config.json", "additional_chat_templates/rag.jinja"]
)
def test_a_changed_folder_is_loaded_again(name: str, folder: Path, kept: Path) -> None:
    load_vocabulary(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(config | {"pad_token": "<|im_end|>"}), encoding="utf-8")
    assert tokenizer_cache.read(folder) is None
    load_vocabulary(folder)
    check_read(folder, Vocabulary.of(load_tokenizer(folder)))


@pytest.mark.parametrize("damage", ["", "{}", "no JSON\n{}", '{"digest": ""}\n{}'])
def test_a_damaged_entry_is_replaced(damage: str, folder: Path, kept: Path) -> None:
    right = load_vocabulary(folder)
    (entry,) = kept.iterdir()
    whole = entry.read_text(encoding="utf-8")
    for text in (damage, whole[:-9], whole.replace("im_end", "im_END")):
        entry.write_text(text, encoding="utf-8")
        assert tokenizer_cache.read(folder) is None
    tokenizer._in_use.clear()  # as in a new process
    load_vocabulary(folder)
    check_read(folder, right)


def test_formatters_of_one_folder_share_what_was_read(folder: Path, kept: Path) -> None:
    first = load_vocabulary(folder)
    assert load_vocabulary(folder) is first
    (folder / "train.json").write_text("somebody else's", encoding="utf-8")
    assert load_vocabulary(folder) is first
    (folder / "generation_config.json").write_text("{}", encoding="utf-8")
    assert load_vocabulary(folder) is not first


def test_nothing_is_kept_where_nothing_can_be(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for place in ("off", str(tmp_path / "file")):
        monkeypatch.setenv(tokenizer_cache.VARIABLE, place)
        assert load_vocabulary(folder).name == str(folder)
        assert tokenizer_cache.read(folder) is None


def test_old_entries_go(folder: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_cache, "KEPT", 2)
    for number in range(4):
        (folder / "generation_config.json").write_text(json.dumps({"n": number}), encoding="utf-8")
        load_vocabulary(folder)
    assert len(list(kept.iterdir())) == 2
    assert tokenizer_cache.read(folder) is not None


def _is_link(entry: Path) -> None:
    entry.rename(entry.with_suffix(".moved"))
    entry.symlink_to(entry.with_suffix(".moved"))


def _is_pipe(entry: Path) -> None:
    entry.unlink()
    os.mkfifo(entry)


def _is_folder(entry: Path) -> None:
    entry.unlink()
    entry.mkdir()


CHANGES: list[Callable[[Path], object]] = [
    _is_pipe,
    _is_folder,
    lambda entry: entry.chmod(0o666),
    lambda entry: entry.parent.chmod(0o777),
]


@pytest.mark.parametrize("change", CHANGES)
def test_an_entry_that_others_may_have_written_is_passed_over(
    change: Callable[[Path], object], folder: Path, kept: Path
) -> None:
    right = load_vocabulary(folder)
    (entry,) = kept.iterdir()
    assert entry.stat().st_mode & 0o077 == 0
    change(entry)
    assert tokenizer_cache.read(folder) is None
    tokenizer._in_use.clear()  # as in a new process
    assert load_vocabulary(folder).digest == right.digest


def test_code_of_a_folder_is_never_run(folder: Path, kept: Path, tmp_path: Path) -> None:
    """Nor is anybody asked whether it may be: standard input is not read."""
    ran = tmp_path / "ran"
    (folder / "mine.py").write_text(f"open({str(ran)!r}, 'w')\nclass Mine: pass\n", encoding="utf-8")
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config |= {"auto_map": {"AutoTokenizer": ["mine.Mine", "mine.Mine"]}, "tokenizer_class": "Mine"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    try:
        load_vocabulary(folder)
    except TokenizerError as error:
        assert "fix: " in str(error)  # noqa: PT017 - a version may load it without its code
    assert not ran.exists()
