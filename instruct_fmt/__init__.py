"""Instruction data into training tensors, right, for any template.

>>> import instruct_fmt as ifmt
>>> fmt = ifmt.compile("alpaca", "embedded")
>>> row = fmt.encode({"instruction": "Say hello.", "input": "", "output": "Hello!"})
>>> len(row["input_ids"]) == len(row["labels"])
True
"""

from typing import TYPE_CHECKING

from instruct_fmt.errors import (
    ConfigError,
    DataError,
    InstructFmtError,
    NothingToLearn,
    RowError,
    TemplateError,
    TokenizerError,
    TooManyRejected,
    UsageError,
)
from instruct_fmt.formatter import Formatter, compile
from instruct_fmt.version import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from typing import Any

    from datasets import Dataset

    from instruct_fmt.run.prepare import Prepared


def open_dataset(name: str, *, split: str = "train", subset: str | None = None, on_bad_row: str = "error") -> "Dataset":
    """Open a data file, a folder of them, or a name on the Hub, as configurations do.

    See `instruct_fmt.run.read.dataset.open_dataset`.

    >>> open_dataset("embedded", split="train[:3]").num_rows
    3
    """
    from instruct_fmt.run.read.dataset import open_dataset

    return open_dataset(name, split=split, subset=subset, on_bad_row=on_bad_row)  # type: ignore[arg-type]  # checked


def prepare(config: "str | os.PathLike[str] | Mapping[str, Any]", *settings: str, **options: "Any") -> "Prepared":
    """Encode the datasets of a configuration, as ``instruct-fmt prepare`` does.

    Args:
        config: path of a YAML file, ``embedded``, or what such a file would hold.
        settings: changes such as ``max_length=512``.
        options: see `instruct_fmt.run.configured.prepare_config`.

    >>> prepare("embedded", "limit=3", progress=False).dataset.num_rows
    3
    """
    from instruct_fmt.run.configured import prepare_config

    return prepare_config(config, settings, **options)


__all__ = [
    "ConfigError",
    "DataError",
    "Formatter",
    "InstructFmtError",
    "NothingToLearn",
    "RowError",
    "TemplateError",
    "TokenizerError",
    "TooManyRejected",
    "UsageError",
    "__version__",
    "compile",
    "open_dataset",
    "prepare",
]
