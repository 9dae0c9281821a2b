"""Templates that are well-formed, and lie about who says what, or when."""

from __future__ import annotations

from collections.abc import Mapping

START = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
END = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
_IF = "{% if m.role == 'assistant' %}"


def _body(body: str) -> str:
    return START + body + END


LIES: Mapping[str, str] = {
    "the user's words in the assistant's turn": _body(
        _IF + "{{ messages[1].content }}{% else %}{{ m.content }}{% endif %}"
    ),
    "the user's words before the assistant's": _body(_IF + "{{ messages[1].content }} {% endif %}{{ m.content }}"),
    "the user's words behind the assistant's": _body("{{ m.content }}" + _IF + " {{ messages[1].content }}{% endif %}"),
    "the system's words behind the assistant's": _body(
        "{{ m.content }}" + _IF + "{{ messages[0].content }}{% endif %}"
    ),
    "the user's words between the assistant's": _body(
        _IF + "{{ m.content[:3] }}{{ messages[1].content }}{{ m.content[3:] }}{% else %}{{ m.content }}{% endif %}"
    ),
    "the assistant's words twice": _body("{{ m.content }}" + _IF + "{{ m.content }}{% endif %}"),
    "the assistant's words twice, apart": _body("{{ m.content }}" + _IF + " again {{ m.content }}{% endif %}"),
    "the assistant's words in the user's turn too": _body(
        "{{ m.content }}{% if m.role == 'user' %}{{ messages[2].content }}{% endif %}"
    ),
    "the next turn's words": _body(
        _IF + "{{ m.content }}{% if not loop.last %}{{ messages[loop.index].content }}{% endif %}"
        "{% else %}{{ m.content }}{% endif %}"
    ),
    "the last answer in each answer": _body(_IF + "{{ messages[-1].content }}{% else %}{{ m.content }}{% endif %}"),
    "answers swapped": _body(
        "{% if loop.index0 == 2 %}{{ messages[4].content }}{% elif loop.index0 == 4 %}{{ messages[2].content }}"
        "{% else %}{{ m.content }}{% endif %}"
    ),
    "question and answer swapped": _body(
        "{% if loop.index0 == 1 %}{{ messages[2].content }}{% elif loop.index0 == 2 %}{{ messages[1].content }}"
        "{% else %}{{ m.content }}{% endif %}"
    ),
    "roles swapped": "{% for m in messages %}<|im_start|>{{ {'user': 'assistant', 'assistant': 'user'}.get(m.role, m.role) }}\n"
    "{{ m.content }}" + END,
    "every role is assistant": "{% for m in messages %}<|im_start|>assistant\n{{ m.content }}" + END,
    "every role is user": "{% for m in messages %}<|im_start|>user\n{{ m.content }}" + END,
    "reversed order": _body("{{ m.content }}").replace("in messages", "in messages | reverse"),
    "sorted order": _body("{{ m.content }}").replace("in messages", "in messages | sort(attribute='content')"),
    "doubled order": _body("{{ m.content }}").replace("in messages", "in messages + messages"),
    "rotated order": _body("{{ m.content }}").replace("in messages", "in messages[1:] + messages[:1]"),
    "answers only": _body("{{ m.content }}").replace(
        "in messages", "in messages | selectattr('role', 'eq', 'assistant')"
    ),
    "without the last": _body("{{ m.content }}").replace("in messages", "in messages[:-1]"),
    "character by character": _body("{% for c in m.content %}{{ c }}{% endfor %}"),
    "characters reversed": _body("{{ m.content | reverse }}"),
    "characters sorted": _body("{{ m.content | sort | join }}"),
    "characters with blanks between": _body("{% for c in m.content %}{{ c }} {% endfor %}"),
    "characters of both, in turn": _body(
        _IF + "{% for c in m.content %}{{ c }}{{ messages[1].content[loop.index0] }}{% endfor %}"
        "{% else %}{{ m.content }}{% endif %}"
    ),
    "words in pieces": _body("{{ m.content[:5] }}{{ m.content[5:] }}"),
    "words in pieces, turned round": _body(
        _IF + "{{ m.content[5:] }}{{ m.content[:5] }}{% else %}{{ m.content }}{% endif %}"
    ),
    "half of each answer": _body("{{ m.content[:8] }}"),
    "in capitals": _body("{{ m.content | upper }}"),
    "as JSON": _body("{{ m.content | tojson }}"),
    "as JSON with the user's": _body(
        _IF + "{{ [m.content, messages[1].content] | tojson }}{% else %}{{ m.content }}{% endif %}"
    ),
    "as a list": _body("{{ [m.content] }}"),
    "the whole message": _body("{{ m }}"),
    "all messages in each turn": _body("{{ messages | tojson }}"),
    "joined contents": _body(
        _IF + "{{ messages | map(attribute='content') | join(' ') }}{% else %}{{ m.content }}{% endif %}"
    ),
    "replaced by the user's": _body("{{ m.content | replace('ansalpha', messages[1].content) }}"),
    "formatted with the user's": _body(
        _IF + "{{ '%s%s' | format(m.content, messages[1].content) }}{% else %}{{ m.content }}{% endif %}"
    ),
    "the user's, laundered by encode": _body(
        _IF + "{{ messages[1].content.encode().decode() }} {{ m.content }}{% else %}{{ m.content }}{% endif %}"
    ),
    # Letters that a template has itself are its own, whoever chose among them: the comment says so to the judge.
    "the user's, spelled in the template's letters": "{# usralphausrbeta #}"
    + _body(
        _IF
        + "{% for c in messages[1].content %}{% for d in 'abcdefghijklmnopqrstuvwxyz' %}{% if c == d %}{{ d }}{% endif %}"
        "{% endfor %}{% endfor %} {{ m.content }}{% else %}{{ m.content }}{% endif %}"
    ),
    "the user's, found in the template's dictionary": _body(
        _IF + "{{ {'usralpha usrbeta': 'usralpha usrbeta'}[messages[1].content] }} {% endif %}{{ m.content }}"
    ),
    "the user's, written in the template": _body(_IF + "usralpha usrbeta {% endif %}{{ m.content }}"),
    "random letters": _body("{{ m.content }}" + _IF + "\u202e\u0f3a\ufffc\U000e0041{% endif %}"),
    "a stop before the answer": _body(_IF + "<|im_end|>{% endif %}{{ m.content }}"),
    "a stop within the answer": _body("{{ m.content[:4] }}" + _IF + "<|im_end|>{% endif %}{{ m.content[4:] }}"),
    "no stop": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "no headers": "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}",
    "headers within answers": _body("{{ m.content }}" + _IF + "<|im_start|>user\nmore{% endif %}"),
    "a prompt that is another's": START
    + "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>user\n{% endif %}",
    "a prompt with the answer in it": START + "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{{ messages[-1].content }}{% endif %}",
    "a prompt of all": START + "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}"
    "{% for m in messages %}{{ m.content }}{% endfor %}{% endif %}",
    "another text for longer conversations": _body(
        "{% if messages | length > 3 %}{{ messages[1].content }}{% endif %}{{ m.content }}"
    ),
    "the answer only while it is last": _body("{% if loop.last or m.role != 'assistant' %}{{ m.content }}{% endif %}"),
    "the answer never while it is last": _body(
        "{% if not loop.last or m.role != 'assistant' %}{{ m.content }}{% endif %}"
    ),
    "another order for the prompt": "{% for m in (messages | reverse if add_generation_prompt else messages) %}<|im_start|>{{ m.role }}\n"
    "{{ m.content }}" + END,
    "generation around the user's": "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'user' %}{% generation %}{{ m.content }}"
    "{% endgeneration %}{% else %}{{ m.content }}{% endif %}" + END,
    "generation around all": "{% generation %}" + _body("{{ m.content }}") + "{% endgeneration %}",
    "generation around a part": _body("{% generation %}{{ m.content[:4] }}{% endgeneration %}{{ m.content[4:] }}"),
    "generation in generation": _body(
        "{% generation %}{% generation %}{{ m.content }}{% endgeneration %}{% endgeneration %}"
    ),
    "generation around nothing": _body("{% generation %}{% endgeneration %}{{ m.content }}"),
    "generation around the user's, as a text": _body(
        "{% set x %}{% generation %}{{ messages[1].content }}{% endgeneration %}{% endset %}{{ m.content }}"
    ),
    "the clock in the answer": _body("{{ m.content }}" + _IF + "{{ strftime_now('%Y') }}{% endif %}"),
    "a macro that speaks for another": "{% macro f(t) %}{{ t }}{{ messages[1].content }}{% endmacro %}"
    + _body(_IF + "{{ f(m.content) }}{% else %}{{ m.content }}{% endif %}"),
    "call block with the user's": "{% macro f() %}{{ caller() }}{% endmacro %}"
    + _body(
        _IF + "{% call f() %}{{ messages[1].content }}{{ m.content }}{% endcall %}{% else %}{{ m.content }}{% endif %}"
    ),
    "filter block over both": _body(
        _IF + "{% filter upper %}{{ messages[1].content }}{{ m.content }}{% endfilter %}{% else %}"
        "{{ m.content }}{% endif %}"
    ),
    "set block over both": _body(
        "{% set x %}{{ messages[1].content }}{{ m.content }}{% endset %}"
        + _IF
        + "{{ x }}{% else %}{{ m.content }}{% endif %}"
    ),
    "a namespace that carries on": "{% set n = namespace(t='') %}{% for m in messages %}{% set n.t = n.t ~ m.content %}"
    "<|im_start|>{{ m.role }}\n{{ n.t }}" + END,
    "only constants": "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nBye<|im_end|>\n",
    "length instead of words": _body("{{ m.content | length }}"),
    "each word's first letter": _body("{% for w in m.content.split() %}{{ w[0] }}{% endfor %}"),
    "turns by role, not by order": "".join(
        "{% for m in messages if m.role == '" + r + "' %}<|im_start|>" + r + "\n{{ m.content }}<|im_end|>\n{% endfor %}"
        for r in ("system", "user", "assistant")
    )
    + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
}
