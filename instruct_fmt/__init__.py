"""Instruction data into training tensors, right, for any template.

>>> import instruct_fmt as ifmt
>>> fmt = ifmt.compile("alpaca", "embedded")
>>> row = fmt.encode({"instruction": "Say hello.", "input": "", "output": "Hello!"})
>>> len(row["input_ids"]) == len(row["labels"])
True
"""

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
]
