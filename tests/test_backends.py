"""The tokenizer engines: one result from all of them, proven, watched, and made anew before they grow too large."""

from __future__ import annotations

import logging
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

import instruct_fmt as ifmt
from instruct_fmt.common.engines import ENGINES, Engine
from instruct_fmt.encode.engines import choose as choose_module
from instruct_fmt.encode.engines import renewed
from instruct_fmt.encode.engines.backend import Flat, Texts
from instruct_fmt.encode.engines.choose import PROBES, choose
from instruct_fmt.encode.engines.reference import ReferenceBackend
from instruct_fmt.encode.engines.renewed import Renewed
from instruct_fmt.encode.engines.watched import CHECK_EVERY, WatchedBackend
from instruct_fmt.errors import TokenizerError
from instruct_fmt.template.plan.planning import PLANS_OFF
from instruct_fmt.tokenizer.loading import load_vocabulary
from instruct_fmt.tokenizer.vocabulary import Vocabulary

TEXTS = [*PROBES, "", "<|im_start|>user\nHi<|im_end|>", "a" * 3000, "word " * 500, "\n\n", "e\u0301 ﬁ"] * 3
FAST = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed"))
    for name in ENGINES
]


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return load_vocabulary("embedded")


def check_equal(found: Flat, wanted: Flat) -> None:
    assert found[0].dtype == np.int32
    assert found[1].dtype == np.int64
    assert found[0].tolist() == wanted[0].tolist()
    assert found[1].tolist() == wanted[1].tolist()


@pytest.mark.parametrize("name", FAST)
def test_fast_engines_give_the_ids_of_the_reference(name: str, vocabulary: Vocabulary) -> None:
    reference, fast = ReferenceBackend(vocabulary.backend), choose(name, vocabulary)
    assert fast.name == name
    wanted = reference.encode(TEXTS)
    column = pa.array(["before", *TEXTS, "behind"], pa.large_string())
    for texts in (TEXTS, pa.array(TEXTS, pa.large_string()), column.slice(1, len(TEXTS))):
        check_equal(fast.encode(texts), wanted)
    for text in TEXTS[:20]:
        check_equal(fast.encode([text]), reference.encode([text]))
    check_equal(fast.encode([]), reference.encode([]))


@pytest.mark.parametrize("name", FAST)
def test_fast_engines_are_chosen_by_name(name: str) -> None:
    rows = pa.table({"instruction": ["Say."] * 8, "input": [""] * 8, "output": ["Said."] * 8})
    wanted = ifmt.compile("alpaca", "embedded", backend="tokenizers").encode_batch(rows)
    found = ifmt.compile("alpaca", "embedded", backend=name).encode_batch(rows)
    assert found.counts[f"backend:{name}"] == 8
    assert found.table.equals(wanted.table)


class Wrong:
    """An engine that is right until it meets a word."""

    name = "wrong"

    def __init__(self, right: ReferenceBackend) -> None:
        self._right = right

    def encode(self, texts: Texts) -> Flat:
        ids, offsets = self._right.encode(texts)
        return (ids + 1 if any("word" in str(text) for text in texts) else ids), offsets


def test_an_engine_that_differs_is_replaced_loudly(vocabulary: Vocabulary, caplog: pytest.LogCaptureFixture) -> None:
    reference = ReferenceBackend(vocabulary.backend)
    watched = WatchedBackend(Wrong(reference), reference)
    check_equal(watched.encode(["fine"]), reference.encode(["fine"]))
    with caplog.at_level(logging.WARNING, "instruct_fmt"):
        texts = ["a word"] * CHECK_EVERY
        check_equal(watched.encode(texts), reference.encode(texts))
    assert "takes over" in caplog.text
    assert watched.name == "tokenizers"


@pytest.mark.parametrize("plans", ["plan", "jinja"])
def test_an_engine_that_goes_wrong_between_two_samples_is_replaced(
    plans: str, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = ReferenceBackend(vocabulary.backend)
    monkeypatch.setitem(sys.modules, "wrong", SimpleNamespace(make=lambda definition: Wrong(right)))
    monkeypatch.setitem(ENGINES, "gigatoken", Engine("wrong", "an engine"))
    rows = pa.table({"instruction": ["Say."] * 40, "input": [""] * 40, "output": [f"a word {n}" for n in range(40)]})
    wanted = ifmt.compile("alpaca", "embedded", backend="tokenizers").encode_batch(rows)
    fmt = ifmt.compile("alpaca", "embedded", backend="gigatoken")
    if plans == "jinja":
        fmt = fmt.planned(PLANS_OFF)
    fmt.encode({"instruction": "Fine " * 500, "input": "", "output": "fine"})
    with caplog.at_level(logging.WARNING, "instruct_fmt"):
        found = fmt.encode_batch(rows)
    assert found.table.equals(wanted.table)
    assert not found.rejected
    assert "takes over" in caplog.text


def test_an_engine_that_fails_its_probes_is_refused(vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    right = ReferenceBackend(vocabulary.backend)
    monkeypatch.setitem(sys.modules, "wrong", SimpleNamespace(make=lambda definition: Wrong(right)))
    monkeypatch.setitem(ENGINES, "wrong", Engine("wrong", "wrong"))
    monkeypatch.setattr(choose_module, "PROBES", ("a word",))
    with pytest.raises(TokenizerError, match="gives other ids"):
        choose("wrong", vocabulary)


@pytest.mark.parametrize("known", [True, False])
def test_engines_are_made_anew(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = iter(range(0, 10**12, 50_000_000))
    monkeypatch.setattr(renewed, "anonymous_memory", lambda: next(memory) if known else None)
    made: list[int] = []
    engine = Renewed(lambda: made.append(1) or len(made))  # type: ignore[func-returns-value]
    engines = [engine.get(9_000_000) for _ in range(60)]
    assert engines == sorted(engines)
    assert 3 < engines[-1] < 30
