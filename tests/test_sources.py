"""Where templates come from: names, texts, files, tokenizers; their columns; and what each error says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from plain_jinja import plain

import instruct_fmt as ifmt
from instruct_fmt.errors import RowError, TemplateError, UsageError
from instruct_fmt.template.source.load import answer_column, load, show
from instruct_fmt.types import TemplateSource

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def test_values_are_never_rendered_again() -> None:
    row = {"instruction": "{{ output }} {input}", "input": "{% raw %}", "output": "{# {instruction} #}"}
    for name in ("alpaca", "user_assistant", "vicuna"):
        text = plain(show(name).text, **row)
        assert all(value in text for value in row.values())


@pytest.mark.parametrize(
    ("text", "columns", "optional"),
    [
        ("{{ q }} {{ a }}", ("q", "a"), ()),
        ("{{ a if b else c }}", ("a", "b", "c"), ("b",)),
        ("{% if not q %}x{% endif %}{{ a }}", ("q", "a"), ("q",)),
        ("{% if q|trim %}{{ q }}{% endif %}{{ a }}", ("q", "a"), ("q",)),
        ("{% if q|length > 0 and x %}{{ q }}{% endif %}{{ a }}", ("q", "x", "a"), ("q", "x")),
        ("{% if q is defined %}{{ q }}{% endif %}{{ a }}", ("q", "a"), ("q",)),
        ("{{ q | default('') }}{{ x or '' }}{{ a }}", ("q", "x", "a"), ("q", "x")),
        ("{% if q == '' %}none{% endif %}{{ a }}", ("q", "a"), ()),
        ("{% if q is not none %}{{ q }}{% endif %}{{ a }}", ("q", "a"), ()),
        (
            "{% set q = q|default('') %}{% for x in q %}{{ x ~ loop.index }}{% endfor %}{{ a }}",
            ("q", "a"),
            ("q",),
        ),
        ("{{ bos_token }}{{ range(3)|join }}{{ strftime_now('%Y') }}{{ a }}{{ eos_token }}", ("a",), ()),
        ("{% macro m(z) %}{{ z }}{% endmacro %}{{ m(a) }}", ("a",), ()),
    ],
)
def test_columns_of_jinja_text(text: str, columns: tuple[str, ...], optional: tuple[str, ...]) -> None:
    source = load(text)
    assert (source.kind, source.columns, source.optional) == ("record", columns, frozenset(optional))
    assert source.text == text


def test_a_template_over_messages_is_a_chat_template() -> None:
    assert load(CHATML) == TemplateSource(CHATML, "chat", "<string>", "text")
    aliased = "{% if messages[0].role == 's' %}{% set messages = messages[1:] %}{% endif %}{{ messages }}"
    assert load(aliased).kind == "chat"
    assert load("{% for messages in rows %}{{ messages }}{% endfor %}").kind == "record"


def test_reading_a_template_computes_nothing() -> None:
    assert load("{{ 'x' * 10 ** 12 }}{{ 'x'|center(10 ** 12) }}{{ 'x'|center(1000000000000) }}{{ a }}").columns == (
        "a",
    )


def test_files(tmp_path: Path) -> None:
    jinja = tmp_path / "mine.jinja"
    jinja.write_text("\ufeff\n  {{ q }} and {a}\r\n{{ a }}\n", encoding="utf-8")
    source = load(str(jinja))
    assert (source.name, source.columns, source.origin) == (str(jinja), ("q", "a"), f"file {jinja}")
    assert plain(source.text, q="Q", a="A") == "\n  Q and {a}\nA"
    assert load(jinja) == source
    assert load(source.text).text == source.text
    text = tmp_path / "prompt.txt"
    text.write_text("Q: {q}\nA: {a}\n", encoding="utf-8")
    assert plain(load(text).text, q="1", a="2") == "Q: 1\nA: 2"


def test_files_that_are_refused(tmp_path: Path) -> None:
    for name, content in (("latin.jinja", b"{{ \xe9 }}"), ("config.json", b"{}"), ("words.jinja", b"hello")):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=r"missing\.jinja cannot be read"):
        load(tmp_path / "missing.jinja")
    with pytest.raises(UsageError, match=r"missing\.txt cannot be read"):
        load("missing.txt")
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path)
    with pytest.raises(TemplateError, match="not UTF-8"):
        load(tmp_path / "latin.jinja")
    with pytest.raises(UsageError, match=r"config\.json is a JSON file.*tokenizer="):
        load(str(tmp_path / "config.json"))
    with pytest.raises(TemplateError, match="neither `messages` nor any column"):
        load(tmp_path / "words.jinja")


def test_the_tokenizers_own_template() -> None:
    assert load(None, CHATML) == TemplateSource(CHATML, "chat", "chat_template", "tokenizer", own=True)
    several = {"default": CHATML, "tool_use": "{{ tools }}" + CHATML}
    source = load(None, several)
    assert (source.text, source.origin) == (CHATML, "tokenizer (default; also has tool_use)")
    assert load("tool_use", several).text == several["tool_use"]
    odd = load(None, "{{ messages[0].content }} {x}")
    assert odd.kind == "chat"
    assert load(odd.text).text == odd.text


def test_a_tokenizer_without_a_usable_template() -> None:
    no_templates: tuple[str | dict[str, str] | None, ...] = (None, "", {})
    for nothing in no_templates:
        with pytest.raises(UsageError, match=r"has no chat template; pass template=: a library name"):
            load(None, nothing)
    with pytest.raises(UsageError, match=r'rag, tool_use and none called default.*template="rag"'):
        load(None, {"rag": CHATML, "tool_use": CHATML})
    with pytest.raises(TemplateError, match="does not use `messages`"):
        load(None, "{% if a %}{{ a }}{% endif %}")


def test_unknown_names() -> None:
    with pytest.raises(UsageError, match=r"no template 'alpca'.*did you mean alpaca"):
        load("alpca")
    with pytest.raises(UsageError, match="no template ''"):
        load("")
    with pytest.raises(UsageError, match="did you mean chatml"):
        show("chat-ml")
    with pytest.raises(UsageError, match="no template 'xx"):
        load("x" * 5000)
    with pytest.raises(UsageError, match="template is a int"):
        load(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "line", "under"),
    [
        ("{{ a }}\n{% endfor %}", 2, "endfor %}"),
        ("{% for x in %}{{ x }}{% endfor %}", 1, "%}{{ x }}"),
        ("a\nb {{ x | nofilter }}\n", 2, "nofilter }}"),
        ("{{ x & y }}", 1, "& y }}"),
        ("ok\n{# c #}\n  {% set a = [1, 2 %}", 3, "%}"),
        ("{%- raw %}{{ {%- endraw %} {{ x y }}", 1, "y }}"),
        ("{{ x is nope }}", 1, "nope }}"),
        ("{{ 'abc }}", 1, "'abc }}"),
        (f"{{{{ x }}}}\n{{{{ {'9' * 5000} }}}}", 2, "999"),
        ("{% if x %}\nabc", 2, "abc"),
        (f"{'y' * 500}{{{{ a b }}}}{'z' * 500}", 1, "b }}z"),
    ],
)
def test_a_broken_template_is_shown_with_a_caret(text: str, line: int, under: str) -> None:
    with pytest.raises(TemplateError) as error:
        load(text if "{" in text else text + "{{ a }}")
    message, shown, caret = str(error.value).split("\n")
    found = re.search(r"template <string>, line (\d+), column (\d+): found text that cannot be read ", message)
    assert found is not None
    assert int(found[1]) == line
    assert text.split("\n")[line - 1][int(found[2]) - 1 :].startswith(under)
    assert shown[caret.index("^") :].startswith(under)


def test_a_template_that_raises_names_the_place() -> None:
    text = "{% for m in messages %}\n  {% if m.role == 'user' %}{{ raise_exception('no user') }}{% endif %}{% endfor %}"
    with pytest.raises(RowError, match=r"found 'no user' at line 2, column 31 of the template, `raise_exception"):
        ifmt.compile(text + show("chatml").text, "embedded").encode(
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
        )


@pytest.mark.parametrize(
    ("template", "columns", "available", "train_on", "trained"),
    [
        ("alpaca", {}, None, "assistant", ("output",)),
        ("alpaca", {"output": "response"}, ["instruction", "response"], "assistant", ("output",)),
        ("{q} {a}", {"a": "answer"}, None, "assistant", ("a",)),
        ("{{ output or response }}", {}, ["response"], "assistant", ("response",)),
        ("{question} {Answer}", {}, None, "assistant", ("Answer",)),
        ("{q} {a}", {}, None, "last", ("a",)),
        ("{% if a %}{{ q }}{% endif %}{{ a }}", {}, None, "last", ("a",)),
        ("{{ q }}{{ a if b else '' }}", {}, None, "last", ("a",)),
        ("{% set x = a %}{{ x }}", {}, None, "last", ("a",)),
        ("{q} {a}", {}, None, "all", ("a",)),
        ("{q} {a} {b}", {}, None, ["b", "a"], ("a", "b")),
        ("{q} {a}", {"a": "reply"}, None, ("reply",), ("a",)),
        ("{{ q }}{% generation %}{{ a }}{% endgeneration %}", {}, None, "assistant", ()),
        ("{{ q }}{% generation %}{{ a }}{% endgeneration %}", {}, None, ["a"], ("a",)),
    ],
)
def test_answer_column(
    template: str,
    columns: dict[str, str],
    available: list[str] | None,
    train_on: object,
    trained: tuple[str, ...],
) -> None:
    assert answer_column(load(template), columns, available, train_on) == trained


@pytest.mark.parametrize(
    ("template", "train_on", "found"),
    [
        ("{q} {a}", "assistant", 'no column named as an answer.*columns are q, a;.*train_on=\\["a"\\]'),
        ("{output} {answer}", "assistant", "output and answer named as an answer.*expected exactly one"),
        ("alpaca", ["assistant"], "'assistant', which template alpaca lacks.*input, instruction, output"),
        ("alpaca", ["outputs"], "did you mean output"),
        ("alpaca", "output", "train_on is 'output'.*a list of columns"),
        ("alpaca", [], "train_on is \\[\\]"),
        ("alpaca", None, "train_on is None"),
    ],
)
def test_answer_column_that_cannot_be_told(template: str, train_on: object, found: str) -> None:
    with pytest.raises(UsageError, match=found):
        answer_column(load(template), {}, None, train_on)
