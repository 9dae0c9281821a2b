"""The embedded default: a small sample and a small tokenizer, so that the main job runs without a network.

In: nothing. Out: paths inside the package. `scripts/train_embedded_tokenizer` makes the tokenizer from the
sample.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["records_path", "sample_path", "tokenizer_path"]

_FOLDER = Path(__file__).resolve().parent


def tokenizer_path() -> Path:
    """The folder of the embedded tokenizer, for ``AutoTokenizer.from_pretrained``.

    Byte-level BPE with a ChatML-like chat template; ``<|im_end|>`` ends a turn, ``<|endoftext|>`` pads.

    >>> (tokenizer_path() / "tokenizer.json").is_file()
    True
    """
    return _FOLDER / "tokenizer"


def sample_path() -> Path:
    """The embedded conversations: JSON lines with ``messages`` and, in some rows, ``tools`` (a JSON string).

    >>> sample_path().suffix
    '.jsonl'
    """
    return _FOLDER / "chat.jsonl"


def records_path() -> Path:
    """The embedded Alpaca-like records: JSON lines with ``instruction``, ``input`` and ``output``.

    >>> records_path().suffix
    '.jsonl'
    """
    return _FOLDER / "records.jsonl"
