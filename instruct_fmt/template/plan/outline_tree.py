"""Which parts of a template may run as a whole: a syntax tree in, one with a choice in place of each loop out.

Each loop may also be run as a macro of all that it reads; `outlined.py` does so where it goes over an object of any
row.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence, Set
from typing import Any

from jinja2 import nodes

LETTERS = "_letters"
LOOKS_INSIDE, OUTLINED = "_looks_inside", "_outlined"
# What a macro may not be asked in another place.
_BOUND = frozenset({"caller", "varargs", "kwargs", "self", "super"})


def outlined(tree: nodes.Template) -> nodes.Template:
    """The tree with its loops also as macros."""
    stored = {name.name for name in tree.find_all(nodes.Name) if name.ctx in ("store", "param")}
    stored |= {macro.name for macro in tree.find_all(nodes.Macro)}
    _outline(tree, stored, impure(tree), iter(range(10**6)))
    return tree


def impure(tree: nodes.Template) -> frozenset[str]:
    """The macros that read or change a namespace, or call one that does."""
    bound, macros = _namespaces(tree), list(tree.find_all(nodes.Macro))
    found = {macro.name for macro in macros if not _is_pure(macro.body, bound)}
    while more := {macro.name for macro in macros if _names(macro.body) & found} - found:
        found |= more
    return frozenset(found)


def _outline(node: nodes.Node, stored: set[str], bound: frozenset[str], numbers: Iterator[int]) -> None:
    for field, value in list(node.iter_fields()):
        if isinstance(value, nodes.Node):
            _outline(value, stored, bound, numbers)
        elif isinstance(value, list):
            setattr(node, field, [_either(item, stored, bound, numbers) for item in value])


def _either(item: Any, stored: set[str], bound: frozenset[str], numbers: Iterator[int]) -> Any:
    """A loop, or a choice between it and it as a macro."""
    if not isinstance(item, nodes.Node):
        return item
    whole = copied(item) if isinstance(item, nodes.For) else None
    _outline(item, stored, bound, numbers)
    if not isinstance(whole, nodes.For) or not _is_pure([whole], bound):
        return item
    base = _base(whole.iter)
    names = sorted((_names([whole]) | {node.name for node in whole.find_all(nodes.NSRef)}) & stored)
    if base is None or "loop" in _names([whole.iter]) or _BOUND & set(names):
        return item
    line, macro = item.lineno, f"_part_{next(numbers)}"
    loads = [nodes.Name(name, "load", lineno=line) for name in names]
    call = nodes.Call(
        nodes.Name(OUTLINED, "load", lineno=line),
        [
            nodes.Name(macro, "load", lineno=line),
            nodes.List([nodes.Const(name, lineno=line) for name in names], lineno=line),
            copied(base),
            *loads,
        ],
        [],
        None,
        None,
        lineno=line,
    )
    asks = nodes.Call(nodes.Name(LOOKS_INSIDE, "load", lineno=line), [copied(base)], [], None, None, lineno=line)
    params = [nodes.Name(name, "param", lineno=line) for name in names]
    made = [nodes.Macro(macro, params, [], [whole], lineno=line), nodes.Output([call], lineno=line)]
    return nodes.If(asks, made, [], [item], lineno=line)


def copied(node: Any) -> Any:
    """A copy of a part of a tree."""
    return copy.deepcopy(node, {id(node.environment): node.environment})


def _base(node: nodes.Node) -> nodes.Expr | None:
    """What a loop goes over, less the filters and methods that hand out its items."""
    while True:
        if isinstance(node, nodes.Filter) and node.node is not None:
            node = node.node
        elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
            node = node.node.node
        else:
            return node if isinstance(node, nodes.Name | nodes.Getattr | nodes.Getitem) else None


def _names(body: Sequence[nodes.Node]) -> set[str]:
    return {name.name for node in body for name in node.find_all(nodes.Name)} | {
        node.name for node in body if isinstance(node, nodes.Name)
    }


def _namespaces(tree: nodes.Node) -> set[str]:
    """Names that are given namespaces."""
    return {
        node.target.name
        for node in (*([tree] if isinstance(tree, nodes.Assign) else []), *tree.find_all(nodes.Assign))
        if isinstance(node.target, nodes.Name)
        and any(getattr(call.node, "name", None) == "namespace" for call in _calls(node.node))
    }


def _calls(node: nodes.Node) -> list[nodes.Call]:
    return [*([node] if isinstance(node, nodes.Call) else []), *node.find_all(nodes.Call)]


def _is_pure(body: Sequence[nodes.Node], bound: Set[str]) -> bool:
    """Whether a body touches no namespace, and has no block that only its place makes sense of."""
    others = (nodes.CallBlock, nodes.Block, nodes.ExtensionAttribute)
    own = set[str]().union(*map(_namespaces, body))
    used = _names(body) | {node.name for one in body for node in one.find_all(nodes.NSRef)}
    return not (used - own) & bound and not any(next(iter(node.find_all(others)), None) for node in body)


def for_all_letters(tree: nodes.Template) -> None:
    """Marks loops that print nothing and only set constants: over a text, they do the same for each character."""
    for loop in tree.find_all(nodes.For):
        if _is_idempotent(loop):
            loop.iter = nodes.Filter(loop.iter, LETTERS, [], [], None, None, lineno=loop.lineno)


def _is_idempotent(loop: nodes.For) -> bool:
    """Whether a loop does the same for one item as for many alike: no output, and constants set for other reasons."""
    held = (nodes.Call, nodes.Macro, nodes.CallBlock, nodes.For, nodes.AssignBlock, nodes.Block, nodes.FilterBlock)
    body = [node for node in loop.body if not isinstance(node, nodes.ExprStmt)]
    inside = [*body, *(inner for node in body for inner in node.find_all(nodes.Node))]
    printed = [one for node in inside if isinstance(node, nodes.Output) for one in node.nodes]
    given = [_bare(node.node) for node in inside if isinstance(node, nodes.Assign)]
    names = [node for node in inside if isinstance(node, nodes.Name)]
    changed = {node.name for node in inside if isinstance(node, nodes.NSRef)}
    changed |= {node.name for node in names if node.ctx == "store"}
    return (
        isinstance(loop.target, nodes.Name)
        and not loop.else_
        and loop.test is None
        and not any(isinstance(node, held) for node in inside)
        and not any(not isinstance(one, nodes.TemplateData) or one.data for one in printed)
        and all(isinstance(value, nodes.Const) for value in given)
        and not {node.name for node in names if node.ctx == "load"} & (changed | {"loop"})
    )


def _bare(node: nodes.Node) -> nodes.Node:
    """An assigned value, less the filter that remembers whose it is."""
    return node.node if isinstance(node, nodes.Filter) and node.name == "_assigned" and node.node is not None else node
