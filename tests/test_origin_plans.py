"""The same for plans: whose text it is is not lost where one render stands for many rows."""

from __future__ import annotations

import itertools
import re

import plain_jinja
import pytest
from jinja2.filters import FILTERS
from test_origin import NOW, SAYINGS, WAYS, printed, public
from test_plans import check_same

import instruct_fmt as ifmt
from instruct_fmt.template.label.record_template import RecordTemplate
from instruct_fmt.template.plan.recorder import recording
from instruct_fmt.template.plan.symbolic_record import SymbolicRecord
from instruct_fmt.template.plan.tokens_of_text import TokensOfText
from instruct_fmt.template.trace.origins import Field
from instruct_fmt.types import Marked, Record


def _of_row(marked: Marked) -> set[int]:
    """The characters that count as the row's; what replaces some of a text does, too, in a plan."""
    return {place for start, end, _ in marked.from_row for place in range(start, end)}


def check_planned(template: str) -> int:
    """How many of some rows run on the plan that the first of them makes; each says what it says without."""
    columns = {name: Field(place, (name,)) for place, name in enumerate("xyz")}
    record = RecordTemplate.compiled(
        template + ": {{ x }} {{ y }}\nA: {{ z }}", list(columns), ["z"], {}, NOW, ["</s>"], []
    )
    rows = [{"x": x, "y": y, "z": "Yes."} for x, y in zip(SAYINGS, reversed(SAYINGS), strict=True)]
    tokens = TokensOfText("", "", (), (), lambda _: (), lambda _: (), lambda text: list(text.encode()), str, "joint")
    with recording() as recorder:
        try:
            made = SymbolicRecord(record, False, tokens).plan(Record(rows[0]), recorder)
        except ifmt.errors.RowError:
            made = None
    filled = [made.fill({columns[name]: text for name, text in row.items()}) if made else None for row in rows]
    for row, fast in zip(rows, filled, strict=True):
        if fast is not None:
            try:
                slow = record.mark(Record(row), append_eos=False)
            except ifmt.errors.RowError:
                assert fast is filled[0], (template, row)  # then the plan is none: this row is compared before any
                return 0
            assert fast.text == plain_jinja.printed(record.renderer.template.text, **row), (template, row)
            assert (fast.text, fast.trained, fast.cuts) == (slow.text, slow.trained, slow.cuts), (template, row)
            if "tojson" not in template:  # there JSON is one text of the row's, here it is one piece by piece
                assert _of_row(slow) <= _of_row(fast), (template, row)
                assert "replace" in template or fast.from_row == slow.from_row, (template, row)
    return sum(fast is not None for fast in filled)


@pytest.mark.parametrize("name", [*public(str), *sorted(set(FILTERS) - {"random"})])
def test_plans_do_not_lose_it_either(name: str) -> None:
    """Every method and every filter, on the row's text and with it: a plan holds for other rows, or there is none."""
    form, receivers = "{}.{}({})", ("x", "'a b {}'")
    if name not in public(str):
        form, receivers = "{} | {}({})", ("x", "[x, 'a %s']")
    for receiver, given in itertools.product(receivers, ("", "y", "'a'", "'a', y", "9, y", "[x, y]")):
        for template in printed(form.format(receiver, name, given)):
            check_planned(template)


def test_plans_of_every_way() -> None:
    holding = {way: check_planned(way) for way in WAYS if not re.search("deep|hexed|nothing|strftime", way)}
    assert holding["{{ '{}'.format(x) }}"] == holding["{{ 'a-b' | replace('-', x) | string }}"] == len(SAYINGS)
    assert sum(map(bool, holding.values())) > 10


@pytest.mark.parametrize("template", ["{{ '{}'.format(x) }}", "{{ x | tojson }}", "{{ x.encode() }}"])
def test_rows_do_not_depend_on_plans(template: str) -> None:
    fmt = ifmt.compile(template + ": {{ x }}\nA: {{ z }}", "embedded", train_on=["z"], max_rejected=1)
    check_same(fmt, [{"x": x, "z": "Yes."} for x in SAYINGS])
