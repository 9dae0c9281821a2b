"""What a template asks for: Jinja text in, the names that it reads out. Nothing is rendered.

A template's own names (loop variables, `set`, macro arguments) are not reported, and neither are those that
the environment always provides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.compiler import Frame
from jinja2.meta import TrackingCodeGenerator

from instruct_fmt.errors import TemplateError
from instruct_fmt.template.trace.environment import TemplateEnvironment
from instruct_fmt.template.trace.helpers import GenerationBlock
from instruct_fmt.template.trace.spots import spot_of_syntax_error, syntax_error

SPECIAL_TOKENS = frozenset(
    {
        "bos_token",
        "eos_token",
        "pad_token",
        "unk_token",
        "sep_token",
        "cls_token",
        "mask_token",
        "additional_special_tokens",
    }
)
"""Names of a tokenizer's special tokens: every template may use them."""

"""Variables that a conversation sets."""

PROVIDED = SPECIAL_TOKENS | frozenset(
    {
        "messages",
        "tools",
        "documents",
        "add_generation_prompt",
        "raise_exception",
        "strftime_now",
        "namespace",
        "range",
        "dict",
        "lipsum",
        "cycler",
        "joiner",
    }
)
"""Names that are never columns: the environment or a conversation provides them."""


@dataclass(frozen=True, slots=True)
class Variables:
    """The names that a template reads.

    Attributes:
        chat: whether it reads `messages`.
        columns: its other names, less those always provided, in the order of their first use.
        optional: the columns whose absence it tests for.
        last: the column that it writes last; None where it has none.
        generation: whether it has a `{% generation %}` block.
        roles: the words that it compares with a message's role.
        mentioned: every name and every word in its code: what it may look at in a row is called by one of them.
    """

    chat: bool
    columns: tuple[str, ...]
    optional: frozenset[str]
    last: str | None
    generation: bool
    roles: frozenset[str]
    mentioned: frozenset[str]


class _Tracker(TrackingCodeGenerator):
    """Finds free names without computing constants: `{{ 'x' * 10 ** 12 }}` must cost nothing here."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.optimizer = None

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: object) -> str:
        raise nodes.Impossible


_ENVIRONMENT = TemplateEnvironment()


def find_variables(text: str, name: str) -> Variables:
    """The names that a template reads.

    Args:
        text: Jinja text.
        name: the template's name, for the message.

    Raises:
        TemplateError: the text is no Jinja template; names the line.

    >>> find_variables("{% if input %}{{ input }}{% endif %}{{ output }}", "<string>").columns
    ('input', 'output')
    """
    try:
        return _read(_parse(text, name), text, name)
    except RecursionError as error:
        raise TemplateError(
            f"template {name}", "one that nests too deeply to be read", "a template of common depth", "simplify it"
        ) from error


def _read(tree: nodes.Template, text: str, name: str) -> Variables:
    free = _free_names(tree, text, name)
    columns = free - PROVIDED
    used = dict.fromkeys(n.name for n in _in_order(tree) if isinstance(n, nodes.Name))
    return Variables(
        chat="messages" in free,
        columns=tuple(n for n in used if n in columns),
        optional=frozenset(_tested(tree)) & columns,
        last=_last_written(tree, columns),
        generation=any(n.identifier == GenerationBlock.identifier for n in tree.find_all(nodes.ExtensionAttribute)),
        roles=frozenset(_roles(tree)),
        mentioned=frozenset(_mentioned(tree)),
    )


def _parse(text: str, name: str) -> nodes.Template:
    try:
        return _ENVIRONMENT.parse(text)
    except TemplateSyntaxError as error:
        raise _syntax_error(error, text, name) from error


def _free_names(tree: nodes.Template, text: str, name: str) -> set[str]:
    tracker = _Tracker(_ENVIRONMENT)
    try:
        tracker.visit(tree)
    except TemplateSyntaxError as error:  # an unknown filter or test
        raise _syntax_error(error, text, name) from error
    return tracker.undeclared_identifiers


def _syntax_error(error: TemplateSyntaxError, text: str, name: str) -> TemplateError:
    return syntax_error(error, spot_of_syntax_error(_ENVIRONMENT, text, error), name)


def _in_order(node: nodes.Node) -> Iterator[nodes.Node]:
    """The nodes in the order of the text."""
    yield node
    children: Iterator[nodes.Node | None] = iter(node.iter_child_nodes())
    if isinstance(node, nodes.CondExpr):  # Jinja itself puts the test of `a if b else c` first
        children = iter((node.expr1, node.test, node.expr2))
    for child in children:
        if child is not None:
            yield from _in_order(child)


def _tested(tree: nodes.Template) -> Iterator[str]:
    """The names whose absence the template is prepared for."""
    for node in _in_order(tree):
        if isinstance(node, nodes.If | nodes.CondExpr):
            yield from _asked(node.test)
        elif isinstance(node, nodes.And | nodes.Or):
            yield from _asked(node.left)
        elif (isinstance(node, nodes.Test) and node.name in ("defined", "undefined")) or (
            isinstance(node, nodes.Filter) and node.name in ("default", "d")
        ):
            yield from _asked(node.node)


def _asked(node: nodes.Node | None) -> Iterator[str]:
    """The names that decide a condition by being there or not.

    `input == ""` and `input is none` are not such conditions: a name that is not there passes for neither.
    """
    if isinstance(node, nodes.Name):
        yield node.name
    elif isinstance(node, nodes.Not | nodes.Filter):
        yield from _asked(node.node)
    elif isinstance(node, nodes.And | nodes.Or):
        yield from _asked(node.left)
        yield from _asked(node.right)
    elif isinstance(node, nodes.Compare) and isinstance(node.expr, nodes.Filter):  # input|length > 0
        yield from _asked(node.expr)


def _roles(tree: nodes.Template) -> Iterator[str]:
    """The words on either side of a comparison of which the other side is about a role."""
    for comparison in tree.find_all(nodes.Compare):
        sides = [comparison.expr, *(operand.expr for operand in comparison.ops)]
        if any(_is_role(side) for side in sides):
            yield from (word for side in sides for word in _words(side) if word != "role")


def _is_role(node: nodes.Node) -> bool:
    """Whether an expression is about a role: ``message.role``, ``message["role"]``, or a name such as ``last_role``."""
    return any(
        (isinstance(part, nodes.Getattr) and "role" in part.attr)
        or (isinstance(part, nodes.Getitem) and isinstance(part.arg, nodes.Const) and part.arg.value == "role")
        or (isinstance(part, nodes.Name) and "role" in part.name)
        for part in _in_order(node)
    )


def _words(node: nodes.Node) -> Iterator[str]:
    for part in _in_order(node):
        if isinstance(part, nodes.Const) and isinstance(part.value, str):
            yield part.value


def _mentioned(tree: nodes.Template) -> Iterator[str]:
    for part in _in_order(tree):
        if isinstance(part, nodes.Getattr):
            yield part.attr
        elif isinstance(part, nodes.Name):
            yield part.name
    yield from _words(tree)


def _last_written(tree: nodes.Template, columns: set[str]) -> str | None:
    last = None
    for output in tree.find_all(nodes.Output):
        tests = {id(n) for c in output.find_all(nodes.CondExpr) for n in _in_order(c.test)}
        for node in _in_order(output):
            if isinstance(node, nodes.Name) and node.name in columns and id(node) not in tests:
                last = node.name
    return last
