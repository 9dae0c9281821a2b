"""From a configuration to what a run needs: datasets opened, a formatter compiled for each.

In: a `Config` and the place of its file. Out: `Source` values for `local.prepare_sources`, which know nothing
of configurations.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from instruct_fmt import formatter
from instruct_fmt.common.files import is_name
from instruct_fmt.errors import UsageError
from instruct_fmt.fit.mix import shuffled
from instruct_fmt.options import about
from instruct_fmt.run.config.dataset_info import resolve, unnamed
from instruct_fmt.run.config.foreign_templates import FALLBACK
from instruct_fmt.run.config.problems import Problems
from instruct_fmt.run.config.schema import Config, DatasetConfig
from instruct_fmt.run.read.dataset import open_dataset
from instruct_fmt.run.recipe import Recipe, check_seed
from instruct_fmt.run.run_options import RunOptions
from instruct_fmt.run.work import Source
from instruct_fmt.tokenizer.loading import TokenizerReference, load_vocabulary

__all__ = ["open_sources", "options_of"]

_CHOICE = 1 << 21
"""What a random choice of rows is for."""


def open_sources(config: Config, base: Path) -> list[Source]:
    """Open the datasets of a configuration and compile their formatters.

    Args:
        config: the configuration.
        base: the folder of its file; paths of data, templates and tokenizers are looked up there, then in the
            current folder.

    Raises:
        InstructFmtError: anything that does not fit, see `formatter.compile` and `open_dataset`.
    """
    check_seed(config.seed)
    made: list[tuple[dict[str, Any], formatter.Formatter]] = []
    sources = []
    for held_out, entries in ((False, config.datasets), (True, config.validation_datasets)):
        for number, dataset in enumerate(entries):
            listed = dataset.dataset_info is not None
            found = _source(config, resolve(dataset, base), base, made, listed=listed)
            data = _some(found.dataset, config, dataset, number)
            sources.append(
                replace(found, dataset=data, epochs=dataset.epochs, weight=dataset.weight, held_out=held_out)
            )
    return sources


def _some(data: datasets.Dataset, config: Config, dataset: DatasetConfig, number: int) -> datasets.Dataset:
    """As many of the rows as are asked for: the first ones, or any where the rows are shuffled."""
    size = len(data)
    asked = dataset.rows if dataset.rows is not None else size
    if dataset.fraction is not None:
        asked = max(1, floor(Fraction(dataset.fraction).limit_denominator(10**9) * size + Fraction(1, 2)))
    if asked > size:
        fix = f"write `rows: {size}`, or `epochs` for each of them more than once"
        raise UsageError(f"{dataset.path}: rows", f"{asked:,}", f"at most the {size:,} that are there", fix)
    wanted = min(asked, config.limit or asked)
    if wanted == size:
        return data
    if not config.shuffle:
        return data.select(range(wanted))
    return data.select(np.sort(shuffled(size, config.seed, number, _CHOICE)[:wanted]))


def options_of(config: Config) -> RunOptions:
    """How to run, as a configuration says it; a relative output path starts from the current folder."""
    path = config.output.path
    return RunOptions(
        None if path is None else Path(path),
        config.output.format,
        tuple(config.keep_columns),
        config.num_proc,
        packing=config.packing or False,
        recipe=Recipe(config.shuffle, config.seed, config.interleave, config.deduplicate, config.validation),
    )


def compile_options(config: Config, dataset: DatasetConfig, base: Path) -> dict[str, Any]:
    """The arguments of `formatter.compile` for a dataset: what it says itself, else what the run says."""
    template = _template(config, dataset, base)
    found = {name: getattr(config, name) for name, said in about().items() if not said.of_dataset}
    found |= {
        "template": template if template is None or not Path(template).suffix else near(base, template),
        "tokenizer": _tokenizer(config, base),
        "columns": _first(dataset.columns, config.columns),
        "train_on": _first(dataset.trained(), config.trained(), "assistant"),
        "template_kwargs": _first(dataset.template_kwargs, config.template_kwargs),
        "format": _first(dataset.format, config.format),
        "system": _first(dataset.system, config.system),
        "field_map": {**config.fields(), **(dataset.field_map or {})} or None,
        "roles": {**(config.roles or {}), **(dataset.roles or {})} or None,
    }
    return found


def _template(config: Config, dataset: DatasetConfig, base: Path) -> str | None:
    """The template of a dataset, else of the run; `tokenizer_default_fallback_…` is for a tokenizer that has none.

    As in axolotl, a template of the run is the tokenizer's own for its datasets.
    """
    template = dataset.template
    if template is None or (template.startswith(FALLBACK) and config.template is not None):
        template = config.template
    if template is None or not template.startswith(FALLBACK):
        return template
    tokenizer = _tokenizer(config, base)
    if isinstance(tokenizer, str):
        tokenizer = TokenizerReference(tokenizer, load_vocabulary(tokenizer).digest).load()
    return None if tokenizer.chat_template else template.removeprefix(FALLBACK)


def near(base: Path, name: str) -> str:
    """A path beside the configuration where there is such a file or folder; else the name as it is."""
    if not is_name(name):
        return name
    found = base / name
    # `os.path` takes long template texts for what they are, where `Path.exists` raises.
    return str(found) if os.path.exists(found) else name  # noqa: PTH110


def _source(
    config: Config,
    dataset: DatasetConfig,
    base: Path,
    made: list[tuple[dict[str, Any], formatter.Formatter]],
    *,
    listed: bool,
) -> Source:
    """A dataset with its formatter; one that was `made` for the same options is taken again."""
    path = str(dataset.path)
    place = path if path.startswith("embedded") else near(base, path)
    data = open_dataset(place, split=dataset.split, subset=dataset.name, on_bad_row=dataset.on_bad_row)
    if listed:
        _check_unnamed(dataset, data)
    options = compile_options(config, dataset, base)
    fmt = next((known for given, known in made if given == options), None)
    if fmt is None:
        fmt = formatter.compile(**options)
        made.append((options, fmt))
    return Source(path, fmt, data)


def _check_unnamed(dataset: DatasetConfig, data: datasets.Dataset) -> None:
    """Refuse words of an entry's rows that LLaMA-Factory leaves out and that would be read here.

    Raises:
        ConfigError: a filled column that the entry does not name.
    """
    problems = Problems(str(dataset.path))
    for key, column in unnamed(dataset, data.column_names):
        if any(value for value in data[column]):
            fix = f"add `{key}: {column}` to the entry's `columns`, or take the column out of the data"
            problems.add(column, "a filled column that dataset_info.json does not name", "a name for it", fix)
    problems.check()


def _tokenizer(config: Config, base: Path) -> Any:
    """The tokenizer's name, or the tokenizer with other special tokens.

    Raises:
        UsageError: a special token that its vocabulary lacks.
    """
    name = str(_first(config.tokenizer, config.model))
    place = name if name == "embedded" else near(base, name)
    if not config.special_tokens:
        return place
    tokenizer = TokenizerReference(place, load_vocabulary(place).digest).load()
    vocabulary = tokenizer.get_vocab()
    for kind, token in config.special_tokens.items():
        if kind not in tokenizer.SPECIAL_TOKENS_ATTRIBUTES:
            raise UsageError(
                f"special_tokens.{kind}",
                "no kind of special token",
                f"one of {', '.join(tokenizer.SPECIAL_TOKENS_ATTRIBUTES)}",
                "correct the name",
            )
        if token not in vocabulary:
            raise UsageError(
                f"special_tokens.{kind}",
                f"{token!r}, which the tokenizer {name!r} lacks",
                "a token of its vocabulary",
                "add it to the tokenizer, save it, and name its folder under `tokenizer`",
            )
    tokenizer.add_special_tokens(dict(config.special_tokens))
    return tokenizer


def _first(*values: Any) -> Any:
    given: Iterable[Any] = (value for value in values if value is not None)
    return next(iter(given), None)
