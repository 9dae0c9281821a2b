"""Hostile configurations, settings of the command line and data files.

In: nothing. Out: `cases()`: each is a call of the command line in a folder of the user's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from hostile_case import SECONDS, Case
from hostile_configs import CONFIGS, CROSSED, CROSSED_ENTRIES, ENTRIES, SETTINGS, Text
from hostile_data import DATA
from hostile_scene import command, named
from hostile_tables import TABLES
from hostile_write import CONFIG, LINE, Setup, file, together

PREPARE = ("prepare", "c.yaml")


def cases() -> Iterator[Case]:
    """Configurations as they are; settings over a good one; entries of a `dataset_info.json`; data files."""
    for name, text in CONFIGS.items():
        yield _case(f"YAML: {name}", "a configuration", file("c.yaml", text), PREPARE)
    for key, texts in CROSSED.items():
        for value, text in texts.items():
            family = f"an odd value of the key {key}"
            yield _case(f"YAML: {key}: {value}", "a key", file("c.yaml", text), PREPARE, family)
    for setting in SETTINGS:
        yield _case(f"--set {named(setting)}", "a setting", _good(), (*PREPARE, "--set", setting))
    for name, text in ENTRIES.items():
        yield _case(f"dataset_info.json: {name}", "an entry", _entry(text), PREPARE)
    for key, texts in CROSSED_ENTRIES.items():
        for value, text in texts.items():
            family = f"an odd value of {key} in dataset_info.json"
            yield _case(f"dataset_info.json: {key} of {value}", "an entry", _entry(text), PREPARE, family)
    for name, setup in {**DATA, **TABLES}.items():
        yield _case(name, "a data file", setup, PREPARE)
        if name in _OTHER_COMMANDS:
            for words in (("preview", "c.yaml"), ("check", "c.yaml"), ("render", "c.yaml")):
                yield _case(f"{name}, {words[0]}", "a data file", setup, words)


_OTHER_COMMANDS = frozenset(
    {
        "d.jsonl: a lone surrogate",
        "d.jsonl: ANSI escapes",
        "d.jsonl: rich markup",
        "d.jsonl: a row 100,000 deep",
        "d.jsonl: one row of 3 MB",
        "d.jsonl: 1 MB without a blank",
        "d.jsonl: numbers as columns",
        "d.jsonl: roles of odd types",
        "d.parquet: a null column",
    }
)


# Honest work on much text: reading 100 MB of it, and unpacking as much.
# Much honest work: a preview of a million tokens, rows that are each rejected with fixes tried on them.
_SECONDS = {
    "a row of 100 MB": 6.0,
    "50 MB": 6.0,
    "1 MB without a blank, preview": 20.0,
    "one row of 3 MB, preview": 30.0,
    "10,000 rejected rows of their own words": 60.0,
    "10,000 rows with a new field each": 60.0,
    "a folder of 2,000 files": 6.0,
    "200 data sets": 20.0,
}


def _seconds(name: str) -> float:
    return next((seconds for words, seconds in _SECONDS.items() if words in name), SECONDS)


def _good() -> Setup:
    return together(file("c.yaml", CONFIG), file("d.jsonl", LINE))


def _entry(text: Text) -> Setup:
    info = "tokenizer: embedded\ntemplate: chatml\noutput: out\ndatasets: [{dataset_info: info.json, name: x}]\n"
    return together(file("c.yaml", info), file("info.json", text), file("d.jsonl", LINE))


def _case(name: str, tries: str, setup: Setup, words: tuple[str, ...], family: str = "") -> Case:
    how, run = named(" ".join(words)), partial(command, *words)
    return Case("files", name, tries, how, run, setup, family=family, seconds=_seconds(name))
