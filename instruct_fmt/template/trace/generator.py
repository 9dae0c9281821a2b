"""Templates' Python code that pays: bodies for their nodes, literals and comparisons for what they go through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame, operators


class Cost(NamedTuple):
    """What each run of a body costs: its nodes, and the characters of its constants."""

    nodes: int
    characters: int


# Their bodies may be run more than once.
REPEATED = (nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block)


def cost_of(body: Sequence[nodes.Node]) -> Cost:
    """The cost of a body, less the bodies in it that pay by themselves."""
    count, characters = 0, 0
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        count += 1
        if isinstance(node, nodes.TemplateData):
            characters += len(node.data)
        apart = {id(one) for one in node.body} if isinstance(node, REPEATED) else set()
        waiting += [one for one in node.iter_child_nodes() if id(one) not in apart]
    return Cost(count, characters)


def pay(body: list[nodes.Node], line: int) -> None:
    """Make a body pay when it is run."""
    body.insert(0, nodes.ExprStmt(nodes.Const(cost_of(body)), lineno=line))


def _varies(node: nodes.Expr) -> bool:
    """Whether a value is not in the template as it stands."""
    if isinstance(node, nodes.List | nodes.Tuple):
        return any(map(_varies, node.items))
    if isinstance(node, nodes.Dict):
        return any(_varies(pair.key) or _varies(pair.value) for pair in node.items)
    return not isinstance(node, nodes.Literal)


class BudgetedGenerator(CodeGenerator):
    """Bodies that are run more than once, comparisons and slices pay for what they do."""

    def visit_ExprStmt(self, node: nodes.ExprStmt, frame: Frame) -> None:
        if isinstance(node.node, nodes.Const) and isinstance(node.node.value, Cost):
            self.writeline(f"_step({node.node.value.nodes}, {node.node.value.characters})", node)
        else:
            super().visit_ExprStmt(node, frame)

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        operands = [node.expr, *(operand.expr for operand in node.ops)]
        searched = [operand.expr for operand in node.ops if operand.op in ("in", "notin")]
        costly = [one for one in operands if _varies(one)]  # what is searched for is hashed
        if len(costly) < (1 if searched else 2):
            super().visit_Compare(node, frame)
            return
        self.write("(")
        for place, operand in enumerate(operands):
            self.write(f" {operators[node.ops[place - 1].op]} " if place else "")
            self.write("_looked_at(" if operand in costly else "(")
            self.visit(operand, frame)
            self.write(")")
        self.write(")")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._made(node, frame, super().visit_List)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._made(node, frame, super().visit_Tuple)
        else:
            super().visit_Tuple(node, frame)

    def _made(self, node: nodes.Expr, frame: Frame, visit: Callable[[Any, Frame], None]) -> None:
        varies = _varies(node)
        self.write("_made(" if varies else "")
        visit(node, frame)
        self.write(")" if varies else "")

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._made(node, frame, self._dict)

    def _dict(self, node: nodes.Dict, frame: Frame) -> None:
        self.write("{")
        for pair in node.items:
            self.write("_looked_at(" if _varies(pair.key) else "(")  # its hash goes through all that is in it
            self.visit(pair.key, frame)
            self.write("): ")
            self.visit(pair.value, frame)
            self.write(", ")
        self.write("}")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if not isinstance(node.arg, nodes.Slice):
            super().visit_Getitem(node, frame)
            return
        self.write("_paid(")
        super().visit_Getitem(node, frame)
        self.write(")")
