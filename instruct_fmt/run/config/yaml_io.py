"""Reading YAML that somebody else may have written: safe types only, each key once, within bounds.

In: text. Out: plain values. What YAML leaves to its reader, an alias that holds itself, a value that its tag does not
fit, is an error with its line.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

__all__ = ["MAX_BYTES", "parse"]

MAX_BYTES = 1_000_000
MAX_DEPTH, MAX_BITS = 50, 512
MAX_NODES = 20_000
"""With what aliases stand for; a tenth of a millisecond each."""


def parse(text: str | bytes) -> Any:
    """The value of a text.

    Raises:
        yaml.YAMLError: the text is no YAML, or goes beyond the bounds; most have a `problem` and a `problem_mark`.
    """
    return yaml.load(text, _Loader)


class _Loader(yaml.SafeLoader):
    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._nodes = self._depth = 0
        self._weights: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node, counted; one that an alias stands for, with all that is in it."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self._weights:
                raise yaml.composer.ComposerError(None, None, "an alias inside of what it stands for", mark)
            self._count(self._weights[id(node)], mark)
            return node
        before = self._nodes
        self._count(1, mark)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"values nested more than {MAX_DEPTH} deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        self._weights[id(node)] = self._nodes - before
        return node

    def _count(self, nodes: int, mark: Any) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise yaml.composer.ComposerError(None, None, f"more than {MAX_NODES:,} values", mark)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """A value; one that its tag does not fit is an error of YAML's."""
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int) and value.bit_length() > MAX_BITS:
                raise ValueError(f"a number of more than {MAX_BITS} bits")
            return value
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
            found = str(node.value) if isinstance(node, yaml.ScalarNode) else node.tag
            kind = node.tag.rpartition(":")[2]
            what = f"{found[:40]!r}, which is no {kind} ({str(error).split(';')[0]})"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping, each of whose keys is one value and is there once."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, f"a {key.id} as a key", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return dict(super().construct_mapping(node, deep))
