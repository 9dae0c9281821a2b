"""The fast tokenizer engines by name. A module is imported only where its engine is asked for."""

from __future__ import annotations

from typing import NamedTuple


class Engine(NamedTuple):
    """A fast engine.

    Attributes:
        module: has `make(definition)`, which makes the engine of a tokenizer in its JSON form.
        about: what it is, for the reference of options.
    """

    module: str
    about: str


REFERENCE = "tokenizers"
ENGINES: dict[str, Engine] = {
    "gigatoken": Engine("instruct_fmt.encode.engines.gigatoken", "of the extra `fast`"),
    "fastokens": Engine("instruct_fmt.encode.engines.fastokens", "of the extra `fast`"),
}
"""In the order in which ``auto`` tries them."""
