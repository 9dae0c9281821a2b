"""Format strings: every literal and value printed exactly, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_jinja import plain

from instruct_fmt.errors import UsageError
from instruct_fmt.template.source.format_string import to_jinja
from instruct_fmt.template.source.load import load

ANY = st.text(st.characters(exclude_categories=[]), max_size=20)  # surrogates too
FIELD = st.sampled_from(["instruction", "output", "größe", "x1", "_hidden"])
LITERAL = st.text(max_size=20)  # a template with half a surrogate pair is refused
VALUE = ANY | st.sampled_from(["{input}", "{{ output }}", "{% for %}"])


@given(st.lists(st.tuples(LITERAL, FIELD, VALUE), min_size=1, max_size=4), LITERAL)
def test_format_string_prints_every_literal_and_value_exactly(parts: list[tuple[str, str, str]], end: str) -> None:
    def escaped(literal: str) -> str:
        return literal.replace("{", "{{").replace("}", "}}")

    values = {field: value for _, field, value in parts}
    text = "".join(f"{escaped(literal)}{{{field}}}" for literal, field, _ in parts) + escaped(end)
    expected = "".join(literal + values[field] for literal, field, _ in parts) + end
    assert plain(to_jinja(text), **values) == expected
    if text.count("{") == text.count("}") == len(parts):
        source = load(text)
        assert source.text == to_jinja(text)
        assert source.columns == tuple(values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("USER: {a}\n{b}\nASSISTANT: {c}", "USER: A\n{x}\nASSISTANT: {{ a }}"),
        ("{a}\n", "A\n"),
        ("\r\n{a}\r", "\r\nA\r"),
        (r'\n "{a}" \\ \u00e9 \N{{}}', r'\n "A" \\ \u00e9 \N{}'),
        ("é😀\u2028\x00'{a}'", "é😀\u2028\x00'A'"),
        ('{{"q": "{a}"}}', '{"q": "A"}'),
        ("{{{a}}}", "{A}"),
        ("-%}} {a} }}", "-%} A }"),
        ("{a}{eos_token}", "A</s>"),
    ],
)
def test_format_string(text: str, expected: str) -> None:
    source = load(text)
    assert source.kind == "record"
    assert plain(source.text, a="A", b="{x}", c="{{ a }}") == expected
    assert load(source.text).text == source.text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{a.b}", "{a.b}"),
        ("{a[0]}", "{a[0]}"),
        ("{0}", "{0}"),
        ("{}", "{}"),
        ("{x!r}", "{x!r}"),
        ("{x:>5}", "{x:>5}"),
        ("{ x }", "{ x }"),
        ('{"a": 1} {b}', '"a": 1'),
        ("{a", "brace without its partner"),
        ("a} {b}", "brace without its partner"),
        ("{in}", "keeps for itself"),
        ("{range}", "keeps for itself"),
        ("{messages}", "keeps for itself"),
        ("{{ a }} and {b}", "reads both as Jinja"),
    ],
)
def test_format_string_that_is_refused(text: str, found: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(text)
    assert found in str(caught.value)
    assert "expected" in str(caught.value)
