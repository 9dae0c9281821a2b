"""Hostile templates: they try to take long, to take memory, to get out of the sandbox, to not compile, to teach lies.

Out: cases. A template that lies about who said what must be refused, or its trained labels must be what the assistant said
and how its turn ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from hostile_judge import Case, Wrong

import instruct_fmt as ifmt

# Printed behind each, so that a template that does no harm has something to teach.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ROW = {
    "messages": [
        {"role": "user", "content": "What is the colour?"},
        {"role": "assistant", "content": "Blue, says the sky."},
        {"role": "user", "content": "And of grass?"},
        {"role": "assistant", "content": "Green as ever."},
    ]
}
SAID = {"Blue, says the sky.", "Green as ever."}


def _doubled(step: str, start: str = "'xy'") -> str:
    return f"{{% set s = {start} %}}" + f"{{% set s = {step} %}}" * 40 + "{{ s }}"


def _nested(use: str) -> str:
    return "{% set s = [1] %}" + "{% set s = [s, s] %}" * 40 + use


TIME: dict[str, str] = {
    "center": "{{ 'x'|center(10**9) }}",
    "center method": "{{ 'x'.center(10**9) }}",
    "center filter block": "{% filter center(10**9) %}x{% endfilter %}",
    "center through map": "{{ ['x']|map('center', 10**9)|list }}",
    "ljust": "{{ 'x'.ljust(10**9) }}",
    "zfill": "{{ 'x'.zfill(10**9) }}",
    "expandtabs": "{{ '\\t'.expandtabs(10**9) }}",
    "expandtabs by name": "{{ '\\t'.expandtabs(tabsize=10**9) }}",
    "indent": "{{ 'a\\nb'|indent(10**9) }}",
    "indent by text": _doubled("(s ~ '\\n')|indent(s)"),
    "percent width": "{{ '%1000000000d' % 1 }}",
    "percent star": "{{ '%*d' % (10**9, 1) }}",
    "percent precision": "{{ '%.1000000000f' % 1 }}",
    "format width": "{{ '{:>1000000000}'.format(1) }}",
    "format nested width": "{{ '{:{}}'.format(1, 10**9) }}",
    "format nested text width": "{{ '{:{}}'.format(1, '1000000000') }}",
    "format_map width": "{{ '{a:{b}}'.format_map({'a': 1, 'b': 10**9}) }}",
    "format filter": _doubled("'%s%s'|format(s, s)"),
    "times": "{{ 'x' * 10**9 }}",
    "list times": "{{ [1] * 10**9 }}",
    "times again": _doubled("s * 3"),
    "plus": _doubled("s + s"),
    "tilde": _doubled("s ~ s"),
    "join": _doubled("[s, s]|join"),
    "join method": _doubled("s.join([s, s])"),
    "join of a generator": "{{ range(100000)|map('string')|join('x' * 100000) }}",
    "replace": _doubled("s|replace('x', 'xx')"),
    "replace nothing": _doubled("s|replace('', 'xx')"),
    "replace method": _doubled("s.replace('x', 'xx')"),
    "format method": _doubled("'{}{}'.format(s, s)"),
    "percent": _doubled("'%s%s' % (s, s)"),
    "set blocks": "{% set s %}xy{% endset %}" + "{% set s %}{{ s }}{{ s }}{% endset %}" * 40,
    "namespace text": "{% set n = namespace(s='xy') %}" + "{% set n.s = n.s ~ n.s %}" * 40 + "{{ n.s }}",
    "power": "{{ 10**(10**8) }}",
    "squares": "{% set x = 10**60 %}" + "{% set x = x * x %}" * 40 + "{{ x }}",
    "range list": "{{ range(10**12)|list }}",
    "range loop": "{% for i in range(10**9) %}{% endfor %}",
    "range beyond": "{% for i in range(10**30) %}{% endfor %}",
    "loops in loops": "{% for i in range(3000) %}{% for j in range(3000) %}{% endfor %}{% endfor %}",
    "loops that skip": "{% for i in range(3000) %}{% for j in range(3000) if false %}{% endfor %}{% endfor %}",
    "printing loop": "{% for i in range(1000000) %}{{ i }}{% endfor %}",
    "constant loop": "{% for i in range(100000) %}" + "y" * 10000 + "{% endfor %}",
    "macro that calls itself": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "macro without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "caller": "{% macro f(n) %}{% if n %}{% call f(n-1) %}{% endcall %}{% call f(n-1) %}{% endcall %}{% endif %}{% endmacro %}{{ f(60) }}",
    "block in itself": "{% block a %}{{ self.a() }}{% endblock %}",
    "blocks in turn": "{% block a %}{{ self.b() }}{{ self.b() }}{% endblock %}{% block b %}{{ self.a() }}{% endblock %}",
    "loop in itself": "{% for x in [[1]] recursive %}{{ loop([[1], [1]]) }}{% endfor %}",
    "cycle": "{% set c = cycler(1, 2) %}{% for i in range(1000000) %}{{ c.next() }}{% endfor %}",
    "list in itself, printed": _nested("{{ s }}"),
    "list in itself, joined": _nested("{{ s|join }}"),
    "list in itself, mapped": _nested("{{ s|map('string')|join }}"),
    "list in itself, concatenated": _nested("{{ s ~ 'x' }}"),
    "list in itself, as JSON": _nested("{{ s|tojson }}"),
    "list in itself, pretty": _nested("{{ s|pprint }}"),
    "list in itself, in attributes": _nested("{{ {'a': s}|xmlattr }}"),
    "list in itself, formatted": _nested("{{ '%s' % (s,) }}"),
    "list in itself, in a format": _nested("{{ '{}'.format(s) }}"),
    "lists compared": "{% set s = [1] %}{% set t = [1] %}" + "{% set s = [s, s] %}{% set t = [t, t] %}" * 40 + "{{ s == t }}",
    "lists searched": "{% set s = [1] %}{% set t = [1] %}" + "{% set s = [s, s] %}{% set t = [t, t] %}" * 40 + "{{ s in [t] }}",
    "lists tested": "{% set s = [1] %}{% set t = [1] %}" + "{% set s = [s, s] %}{% set t = [t, t] %}" * 40 + "{{ s is eq(t) }}",
    "lists sorted": "{% set s = [1] %}{% set t = [1] %}" + "{% set s = [s, s] %}{% set t = [t, t] %}" * 40 + "{{ [s, t]|sort }}",
    "tuple as a key": "{% set s = (1,) %}" + "{% set s = (s, s) %}" * 40 + "{{ {}[s] }}",
    "tuple as a display's key": "{% set s = (1,) %}" + "{% set s = (s, s) %}" * 40 + "{{ {s: 1} }}",
    "tuple to get": "{% set s = (1,) %}" + "{% set s = (s, s) %}" * 40 + "{{ {}.get(s) }}",
    "mappings in themselves": "{% set s = {} %}" + "{% set s = {'a': s, 'b': s} %}" * 40 + "{{ s }}",
    "namespaces in themselves": "{% set s = namespace(a=1) %}" + "{% set s = namespace(a=s, b=s) %}" * 40 + "{{ s }}",
    "dict of dicts": "{% set s = dict(a=1) %}" + "{% set s = dict(a=s, b=s) %}" * 40 + "{{ s }}",
    "lists added": "{% set s = [1] %}" + "{% set s = s + s %}" * 40 + "{{ s|length }}",
    "sum of lists": "{{ ([[1] * 1000] * 3000)|sum(start=[]) }}",
    "batch": "{{ [1]|batch(10**9, 'x')|list }}",
    "slice": "{{ [1]|slice(10**9)|list }}",
    "JSON indent": "{{ [[1], [2]]|tojson(indent=10**8) }}",
    "JSON separators": "{{ range(10000)|list|tojson(separators=('x' * 100000, ':')) }}",
    "wordwrap": "{{ ('a ' * 1000000)|wordwrap(1) }}",
    "urlize": "{{ ('www.a.com ' * 100000)|urlize(target='x' * 10000) }}",
    "urlize of addresses": "{{ ('a@' * 1000000)|urlize }}",
    "striptags": "{{ ('<' * 1000000)|striptags }}",
    "title": "{{ ('x ' * 3000000)|title }}",
    "wordcount": "{{ ('x ' * 3000000)|wordcount }}",
    "truncate": "{{ ('x ' * 3000000)|truncate(5000000) }}",
    "pprint": "{{ range(300000)|list|pprint }}",
    "sort": "{{ range(900000)|sort|list|length }}",
    "groupby": "{{ range(900000)|groupby('real')|list|length }}",
    "unique": "{{ range(900000)|unique|list|length }}",
    "dictsort": "{{ dict.fromkeys(range(900000))|dictsort|length }}",
    "text searched in a loop": "{% set a = 'x' * 9000000 %}{% for i in range(90000) %}{% if 'y' in a %}{% endif %}{% endfor %}",
    "texts compared in a loop": "{% set a = 'x' * 5000000 %}{% set b = 'x' * 5000000 %}{% for i in range(90000) %}{% if a == b %}{% endif %}{% endfor %}",
    "text sliced in a loop": "{% set a = 'x' * 5000000 %}{% for i in range(90000) %}{% set c = a[1:] %}{% endfor %}",
    "text in capitals in a loop": "{% set a = 'x' * 5000000 %}{% for i in range(90000) %}{% set c = a.upper() %}{% endfor %}",
    "text split": "{% set a = ' x' * 5000000 %}{{ a.split()|length }}",
    "letters": "{% for c in 'x' * 5000000 %}{{ c }}{% endfor %}",
    "to_bytes": "{{ (5).to_bytes(10**9, 'big') }}",
    "translate": "{{ ('x' * 1000).translate({120: 'y' * 1000000}) }}",
    "encode": "{{ ('x' * 30000000).encode() }}",
    "deep list": "{% set s = [1] %}" + "{% set s = [s] %}" * 2000 + "{{ s }}",
    "content doubled": "{% set s = messages[0].content %}" + "{% set s = s ~ s %}" * 40 + "{{ s }}",
    "messages doubled": "{% set m = messages %}" + "{% set m = m + m %}" * 40 + "{% for x in m %}{{ x.content }}{% endfor %}",
    "message raised": "{{ raise_exception('x' * 10000000) }}",
    "clock": "{{ strftime_now('%Y' * 100000) }}",
    "clock of bytes": "{{ strftime_now('%\\ud800') }}",
}  # fmt: skip

GETTING_OUT: dict[str, str] = {
    "class": "{{ ''.__class__ }}",
    "subclasses": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "subclasses by items": "{{ ''['__class__']['__mro__'][1]['__subclasses__']() }}",
    "attr filter": "{{ ''|attr('__class__')|attr('__mro__') }}",
    "map attribute": "{{ ['']|map(attribute='__class__')|list }}",
    "map attr": "{{ ['']|map('attr', '__class__')|list }}",
    "selectattr": "{{ ['']|selectattr('__class__.__mro__')|list }}",
    "groupby attribute": "{{ ['']|groupby('__class__')|list }}",
    "sum attribute": "{{ ['']|sum(attribute='__class__', start='') }}",
    "format attribute": "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "format_map attribute": "{{ '{a.__class__}'.format_map({'a': messages}) }}",
    "format through a name": "{% set f = '{0.__class__}'.format %}{{ f(messages) }}",
    "format through map": "{{ ['{0.__class__}']|map('format', messages)|list }}",
    "cycler globals": "{{ cycler.__init__.__globals__ }}",
    "joiner globals": "{{ joiner.__init__.__globals__.os.popen('touch imported').read() }}",
    "namespace globals": "{{ namespace.__init__.__globals__ }}",
    "dict globals": "{{ dict.__call__.__globals__ }}",
    "range globals": "{{ range.__globals__ }}",
    "raise globals": "{{ raise_exception.__globals__ }}",
    "clock globals": "{{ strftime_now.__globals__ }}",
    "macro globals": "{% macro f() %}{% endmacro %}{{ f.__class__ }}{{ f._func.__globals__ }}",
    "macro environment": "{% macro f() %}{% endmacro %}{{ f._environment }}",
    "self": "{{ self.__init__.__globals__ }}{{ self._TemplateReference__context }}",
    "loop": "{% for m in messages %}{{ loop.__class__ }}{{ loop._iterator }}{{ loop._undefined }}{% endfor %}",
    "caller globals": "{% macro f() %}{{ caller.__globals__ }}{% endmacro %}{% call f() %}{% endcall %}",
    "generator frame": "{{ (messages|map('upper')).gi_frame.f_globals }}",
    "context": "{{ get_flashed_messages.__globals__ }}{{ url_for }}{{ config }}{{ request }}",
    "lipsum": "{{ lipsum.__globals__.os.popen('touch imported').read() }}",
    "undefined": "{{ nothing.__class__ }}",
    "undefined init": "{{ nothing.__init__.__globals__ }}",
    "append": "{{ messages.append(messages[0]) }}",
    "pop": "{{ messages.pop() }}",
    "clear": "{{ messages.clear() }}",
    "reverse": "{{ messages.reverse() }}",
    "sort in place": "{{ messages.sort() }}",
    "insert": "{{ messages.insert(0, {'role': 'assistant', 'content': 'I was here'}) }}",
    "update": "{{ messages[0].update({'role': 'assistant'}) }}",
    "setdefault": "{{ messages[0].setdefault('x', 1) }}",
    "popitem": "{{ messages[0].popitem() }}",
    "set a message": "{% set messages[0].role = 'assistant' %}",
    "set a class": "{% set n = namespace() %}{% set n.__class__ = 1 %}",
    "underscore namespace": "{% set n = namespace(__init__=1) %}{{ n }}",
    "reduce": "{{ messages.__reduce__() }}",
    "getattribute": "{{ messages.__getattribute__('append') }}",
    "doc": "{{ messages.append.__self__ }}",
    "import of a file": "{% import 'os' as os %}{{ os }}",
    "from": "{% from '/etc/passwd' import x %}",
    "include": "{% include '/etc/passwd' %}",
    "include missing": "{% include 'x' ignore missing %}",
    "extends": "{% extends '/etc/passwd' %}",
    "autoescape": "{% autoescape true %}{{ '<' }}{% endautoescape %}",
    "escape": "{{ messages|escape }}",
    "do": "{% do messages.append(1) %}",
    "debug": "{% debug %}",
    "trans": "{% trans %}x{% endtrans %}",
}  # fmt: skip

ODD: dict[str, str] = {
    "empty": "",
    "blank": " \n ",
    "comment": "{# nothing #}",
    "text alone": "hello",
    "unclosed print": "{{ messages",
    "unclosed block": "{% for m in messages %}",
    "unclosed comment": "{# {{ messages }}",
    "unclosed string": "{{ 'x }}",
    "end without a beginning": "{% endfor %}{{ messages }}",
    "unknown tag": "{% bogus %}{{ messages }}",
    "unknown filter": "{{ messages|bogus }}",
    "unknown test": "{{ messages is bogus }}",
    "generation without an end": "{% generation %}{{ messages }}",
    "generation in generation": "{% generation %}{% generation %}{{ messages }}{% endgeneration %}{% endgeneration %}",
    "break alone": "{% break %}{{ messages }}",
    "NUL": "{{ messages }}\0",
    "half a character": "{{ messages }}\ud800",
    "half a character in a string": "{{ messages ~ '\ud800' }}",
    "escaped half": "{{ messages[0].content ~ '\\ud800' }}",
    "30 loops": "{% for m in messages %}" * 30 + "x" + "{% endfor %}" * 30,
    "200 loops": "{% for m in messages %}" * 200 + "x" + "{% endfor %}" * 200,
    "3,000 ifs": "{% if messages %}" * 3000 + "x" + "{% endif %}" * 3000,
    "5,000 branches": "{% if messages == 0 %}" + "".join(f"{{% elif messages == {n} %}}{n}" for n in range(5000)) + "{% endif %}",
    "5,000 brackets": "{{ " + "(" * 5000 + "messages" + ")" * 5000 + " }}",
    "5,000 lists": "{{ " + "[" * 5000 + "messages" + "]" * 5000 + " }}",
    "5,000 nots": "{{ " + "not " * 5000 + "messages }}",
    "5,000 minuses": "{{ " + "-" * 5000 + "1 }}{{ messages }}",
    "5,000 pluses": "{{ " + "1 + " * 5000 + "1 }}{{ messages }}",
    "5,000 tildes": "{{ " + "'a' ~ " * 5000 + "'a' }}{{ messages }}",
    "5,000 filters": "{{ messages" + "|list" * 5000 + " }}",
    "5,000 attributes": "{{ messages" + ".a" * 5000 + " }}",
    "5,000 ands": "{{ " + "messages and " * 5000 + "1 }}",
    "5,000 conditions": "{{ " + "1 if messages else " * 5000 + "1 }}",
    "20,000 prints": "{{ messages }}" + "".join(f"{{{{ {n} }}}}" for n in range(20000)),
    "20,000 sets": "{{ messages }}" + "".join(f"{{% set a{n} = {n} %}}" for n in range(20000)),
    "1 MB of text": "{{ messages }}" + "x" * 1_000_000,
    "1 MB of braces": "{" * 1_000_000,
    "1 MB of a name": "{{ messages }}{{ " + "a" * 1_000_000 + " }}",
    "1 MB of a number": "{{ messages }}{{ " + "9" * 1_000_000 + " }}",
    "5,000 digits": "{{ messages }}{{ " + "9" * 5000 + " }}",
    "300 macros": "".join(f"{{% macro m{n}() %}}{{{{ m{n + 1}() }}}}{{% endmacro %}}" for n in range(300)) + "{{ messages }}{{ m0() }}",
    "300 arguments": "{% macro m(" + ", ".join(f"a{n}" for n in range(300)) + ") %}{% endmacro %}{{ messages }}",
    "message that raises": "{{ raise_exception() }}{{ messages }}",
}  # fmt: skip

# They print one speaker's words as another's, or not at all.
_USER, _ASSISTANT = "<|im_start|>user\n", "<|im_start|>assistant\n"
_PROMPT = "{% if add_generation_prompt %}" + _ASSISTANT + "{% endif %}"
LIES: dict[str, str] = {
    "roles swapped": "{% for m in messages %}<|im_start|>{{ 'user' if m.role == 'assistant' else 'assistant' }}\n{{ m.content }}<|im_end|>\n{% endfor %}" + _PROMPT,
    "user as assistant": "{% for m in messages %}" + _ASSISTANT + "{{ m.content }}<|im_end|>\n{% endfor %}" + _PROMPT,
    "question in the answer": "{% for m in messages %}{% if m.role == 'assistant' %}" + _ASSISTANT + "{{ messages[loop.index0 - 1].content }} {{ m.content }}<|im_end|>\n{% else %}" + _USER + "{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}" + _PROMPT,
    "next question in the answer": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if m.role == 'assistant' and not loop.last %}{{ loop.nextitem.content }}{% endif %}<|im_end|>\n{% endfor %}" + _PROMPT,
    "answer twice": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{{ m.content }}<|im_end|>\n{% endfor %}" + _PROMPT,
    "answer before its header": "{% for m in messages %}{{ m.content }}<|im_start|>{{ m.role }}\n<|im_end|>\n{% endfor %}" + _PROMPT,
    "backwards": "{% for m in messages|reverse %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}" + _PROMPT,
    "letter by letter": "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{{ c }}{% endfor %}<|im_end|>\n{% endfor %}" + _PROMPT,
    "letters backwards": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content|reverse }}<|im_end|>\n{% endfor %}" + _PROMPT,
    "capitals": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content|upper }}<|im_end|>\n{% endfor %}" + _PROMPT,
    "cut": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content[:4] }}<|im_end|>\n{% endfor %}" + _PROMPT,
    "words of its own": "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}Buy gold! {% endif %}{{ m.content }}<|im_end|>\n{% endfor %}" + _PROMPT,
    "words behind": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if m.role == 'assistant' %} Buy gold!{% endif %}<|im_end|>\n{% endfor %}" + _PROMPT,
    "answer replaced": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ 'Buy gold!' if m.role == 'assistant' else m.content }}<|im_end|>\n{% endfor %}" + _PROMPT,
    "answers gathered": "{% for m in messages if m.role == 'user' %}" + _USER + "{{ m.content }}<|im_end|>\n{% endfor %}" + _ASSISTANT + "{% for m in messages if m.role == 'assistant' %}{{ m.content }}{% endfor %}<|im_end|>" + _PROMPT,
    "gathered in a namespace": "{% set n = namespace(t='') %}{% for m in messages %}{% set n.t = n.t ~ m.content %}{% endfor %}" + _ASSISTANT + "{{ n.t }}<|im_end|>" + _PROMPT,
    "words changed": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content|replace('Blue', 'Red') }}<|im_end|>\n{% endfor %}" + _PROMPT,
    "question's words put in": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content|replace('sky', messages[0].content) }}<|im_end|>\n{% endfor %}" + _PROMPT,
    "only the last": _USER + "{{ messages[-2].content }}<|im_end|>\n" + _ASSISTANT + "{{ messages[-1].content }}<|im_end|>\n",
    "a stop in the midst": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content[:4] }}<|im_end|>{{ m.content[4:] }}<|im_end|>\n{% endfor %}" + _PROMPT,
    "other text each time": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{{ namespace() }}<|im_end|>\n{% endfor %}" + _PROMPT,
    "prompt of a user": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}" + _USER + "{% endif %}",
    "no prompt": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
    "generation around the user": "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'user' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}" + _PROMPT,
}  # fmt: skip
# What a turn of these may hold beside the answer: what the template itself writes there is its own affair.
_OWN_WORDS = {"words of its own", "words behind"}


def tried(template: str) -> str:
    """Compile a template and encode a row with it, alone and as a table."""
    fmt = ifmt.compile(template, "embedded")
    row = fmt.encode(ROW)
    return f"ok, {len(row['input_ids'])} tokens"


def lied(name: str) -> str:
    """The same for a template that lies; what is trained must be the assistant's."""
    fmt = ifmt.compile(LIES[name], "embedded")
    row = fmt.encode(ROW)
    pieces = _trained(fmt, row["input_ids"], row["labels"])
    for piece in pieces:
        words = piece.replace("<|im_end|>", "").replace("<|im_start|>", "").strip()
        if name in _OWN_WORDS:
            words = words.replace("Buy gold!", "").strip()
        if words and not any(words in said or words == said * 2 or words.title() in said.title() for said in SAID):
            raise Wrong(f"trained: {piece!r}")
    return f"ok, trained: {pieces}"


def _trained(fmt: ifmt.Formatter, ids: Any, labels: Any) -> list[str]:
    """The stretches of trained tokens, as text."""
    found: list[list[int]] = [[]]
    for id, label in zip(ids, labels, strict=True):
        if label == -100:
            found.append([])
        else:
            found[-1].append(int(id))
    return [fmt.tokenizer.decode(piece) for piece in found if piece]


def cases() -> Iterator[Case]:
    """All of them."""
    for name, text in TIME.items():
        yield Case(f"template: {name}", "time or memory", partial(tried, text + CHATML))
    for name, text in GETTING_OUT.items():
        yield Case(f"template: {name}", "to get out", partial(tried, text + CHATML))
    for name, text in ODD.items():
        yield Case(f"template: {name}", "the compiler", partial(tried, text))
        yield Case(f"template: {name}, before another", "the compiler", partial(tried, text + CHATML))
    for name in LIES:
        yield Case(f"template: {name}", "to teach a lie", partial(lied, name))
