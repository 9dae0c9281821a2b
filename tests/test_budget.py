"""What a template may use up: bombs are refused, whole compilations and rows are counted, honest work fits."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import jinja2
import pytest

import instruct_fmt as ifmt
from instruct_fmt.template.trace import budget as budgets
from instruct_fmt.template.trace.budget import CHARACTERS_OF_STEP, Budget, BudgetExceeded, allowance, row_budget
from instruct_fmt.template.trace.charged import CONSTANT, CONSTANT_TESTS
from instruct_fmt.template.trace.charges import widths
from instruct_fmt.template.trace.environment import MAX_NODES, TemplateEnvironment
from instruct_fmt.types import Conversation, Record

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]


def test_what_is_in_a_value_several_times_is_counted_each_time() -> None:
    value: list[Any] = ["x"]
    for _ in range(20):
        value = [value, value]
    assert Budget(1, 1).weigh(value) > 2**20
    with pytest.raises(BudgetExceeded, match="steps"):
        Budget(1_000_000, 1_000_000).look(value)
    deep: list[Any] = []
    for _ in range(budgets.MAX_DEPTH + 2):
        deep = [deep]
    with pytest.raises(BudgetExceeded, match="nested"):
        Budget(1, 1).weigh(deep)


def test_a_row_gets_what_it_needs() -> None:
    """Once what every row has is used up, so much more as the row has messages and text; then no more."""
    few, many = row_budget(Conversation(MESSAGES)), row_budget(Conversation(MESSAGES * 500))
    record = row_budget(Record({"text": "x" * 1_000_000}))
    for budget, least in ((few, 0), (many, 10_000_000), (record, 1_000_000)):
        budget.step(budgets.MAX_STEPS + 1)
        assert budget.steps > least
        with pytest.raises(BudgetExceeded):
            budget.step(budget.steps + 1)
        assert budget.used_up


@pytest.mark.parametrize(
    "bomb",
    [
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% set s = [1] %}" + "{% set s = [s, s] %}" * 40 + "{{ s }}",
        "{% set s = [1] %}{% set t = [1] %}" + "{% set s = [s, s] %}{% set t = [t, t] %}" * 40 + "{{ s == t }}",
        "{% for i in range(3000) %}{% for j in range(3000) if false %}{% endfor %}{% endfor %}",
        "{{ 'x'|center(10**9) }}",
        "{{ ('x' * 1000000)|sort|join }}",
    ],
)
def test_a_whole_compilation_is_counted(bomb: str) -> None:
    """However many conversations a template is tried on."""
    with pytest.raises(ifmt.TemplateError, match=r"takes more than .* steps, or builds more than .* characters"):
        ifmt.compile(bomb + CHATML, "embedded")


def test_a_bomb_that_only_a_row_sets_off() -> None:
    text = "{% if messages[0].content == 'go' %}{% for i in range(10**7) %}{{ i }}{% endfor %}{% endif %}" + CHATML
    fmt = ifmt.compile(text, "embedded")
    assert fmt.encode({"messages": MESSAGES})
    with pytest.raises(ifmt.RowError, match="template-budget"):
        fmt.encode({"messages": [{"role": "user", "content": "go"}, MESSAGES[1]]})


def test_templates_that_are_too_large_or_too_deep() -> None:
    environment = TemplateEnvironment()
    for text in ("{{ x }}" * MAX_NODES, "{{ " + "(" * 5000 + "x" + ")" * 5000 + " }}", "{% for x in y %}" * 30):
        with pytest.raises(ifmt.TemplateError):
            ifmt.compile(text + "{{ messages }}", "embedded")
    assert environment.from_string("{% for x in y %}{{ x }}{% endfor %}").render(y=[1, 2]) == "12"


LONG = "ab " * 300_000
FILTERS = {"batch": "(2)", "center": "(9)", "format": "(s)", "groupby": "('a')", "map": "('e')", "slice": "(2)"}
FILTERS |= {"replace": "('a', 'b')", "select": "('in', 'a')", "sum": "(start='')", "truncate": "(9)"}
OF_MAPPINGS = {"dictsort", "xmlattr"}
TESTS = {"filter": None, "test": None, "in": "(s)", "eq": "(s)"}


def _spent(text: str, values: Mapping[str, Any]) -> int:
    """The steps of a rendering, whether it comes to an end or not; building a character is taken for as much."""
    with allowance(Budget(10**9, 10**9)) as budget, suppress(jinja2.TemplateError, TypeError, ValueError, KeyError):
        TemplateEnvironment().from_string(text).render(**values)
    return 2 * 10**9 - budget.steps - budget.characters


METHODS = [
    *("capitalize()", "casefold()", "center(9)", "count('c')", "encode()", "endswith(s)", "expandtabs()", "find('c')"),
    *("format(1)", "index('c')", "isalnum()", "isalpha()", "isascii()", "isdigit()", "islower()", "isprintable()"),
    *("isspace()", "istitle()", "isupper()", "join('ab')", "ljust(9)", "lower()", "lstrip()", "partition('c')"),
    *("removeprefix(s)", "replace('c', 'd')", "rfind('c')", "rpartition('c')", "rsplit('c')", "rstrip('b ')"),
    *("split('c')", "splitlines()", "startswith(s)", "strip()", "swapcase()", "title()", "translate({})", "upper()"),
]


def _ways() -> list[str]:
    """Whatever a template may do with a text."""
    environment = TemplateEnvironment()
    filters = sorted(environment.filters.keys() - CONSTANT - {"_charged"} - OF_MAPPINGS)
    tests = sorted(name for name in environment.tests.keys() - CONSTANT_TESTS if name.isidentifier())
    return [
        *(f"s | {name}{FILTERS.get(name, '')}" for name in filters),
        *(f"s is {name}{TESTS.get(name, '')}" for name in tests if TESTS.get(name, "") is not None),
        *(f"s {operator} t" for operator in ("==", "!=", "<", "in", "not in", "+", "~")),
        *("s in {}", "s in []", "{s: 1}", "'%s' % s", "s % 1", "{}[s]", "s[1:]", "s[::-1]", "dict([[s, 1]])"),
        *(f"s.{name}" for name in METHODS),
    ]


@pytest.mark.parametrize("way", _ways())
def test_going_through_a_text_is_paid_by_its_length(way: str) -> None:
    text = "{% set x = " + way + " %}"
    short, long = (_spent(text, {"s": part, "t": part + "c"}) for part in ("ab ", LONG))
    assert long - short > 0.9 * len(LONG) / CHARACTERS_OF_STEP, (short, long)


@pytest.mark.parametrize("made", ["[s, s]", "(s, s)", "{'a': s, 'b': s}", "[s] * 2", "[s] + [s]", "dict(a=s, b=s)"])
def test_what_holds_itself_twice_over_is_refused_as_it_is_made(made: str) -> None:
    text = "{% set s = ('a',) %}" + ("{% set s = " + made + " %}") * 60
    with allowance(Budget(10**9, 10**9)), pytest.raises(BudgetExceeded, match="parts"):
        TemplateEnvironment().from_string(text).render()


def test_long_conversations_and_many_control_tokens_take_linear_steps() -> None:
    fmt = ifmt.compile("chatml", "embedded", backend="tokenizers")
    assert len(fmt.encode({"messages": MESSAGES * 400})["input_ids"]) == 400 * len(_ids(fmt))
    row = fmt.encode({"messages": [MESSAGES[0], {"role": "assistant", "content": "<|im_end|>" * 20_000}]})
    assert fmt.tokenizer.convert_ids_to_tokens(row["input_ids"]).count("<|im_end|>") == 2


def _ids(fmt: ifmt.Formatter) -> list[int]:
    return fmt.encode({"messages": MESSAGES})["input_ids"]


@pytest.mark.parametrize(
    ("text", "values", "least"),
    [
        ("%5d", (), 5),
        ("%*d", (10**9, 1), 10**9),
        ("{:{}}", (1, 10**9), 10**9),
        ("{:{}}", (1, "1000"), 1000),
        ("a", (), 0),
    ],
)
def test_widths_of_format_texts(text: str, values: tuple[object, ...], least: int) -> None:
    assert widths(text, values) >= least
