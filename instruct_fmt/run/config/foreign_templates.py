"""Names of templates in the words of axolotl and LLaMA-Factory: known here with the same text, or a problem.

Sources: `utils/chat_templates` of axolotl 0.19, `data/template.py` of LLaMA-Factory 0.9.5. Their texts
were compared with the library's on conversations without tools: a name has the same text in both, or is refused.
"""

from __future__ import annotations

import re
from typing import Any

from instruct_fmt.common.names import nearest_name
from instruct_fmt.errors import shown
from instruct_fmt.run.config.problems import Problems, say
from instruct_fmt.template.source import load as sources

__all__ = ["FALLBACK", "check_llama_factory_template", "check_template", "jinja_beside"]

FALLBACK = "tokenizer_default_fallback_"
"""Before a template's name: the tokenizer's own, or that one where it has none."""

_OWN = ("tokenizer", "tokenizer_default")
# LLaMA-Factory's names whose text is that of the library's template of the same name.
_SAME = ("chatml", "gemma", "gemma3", "llama3", "phi4")
# LLaMA-Factory's names whose text the library has under another.
_OTHER_NAMES = {"qwen": "qwen2_5", "qwen3_nothink": "chatml", "smollm": "chatml", "yi": "chatml"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*")
_SUFFIX = re.compile(r"\.(jinja2?|j2|txt)$")
_OWN_TEMPLATE = (
    "take it out, for the tokenizer's own template, or write `chat_template: jinja` and the text as "
    "`chat_template_jinja`"
)


def check_template(value: Any, key: str, problems: Problems) -> None:
    """A bare name is the library's; texts and paths are judged where they are read."""
    if not isinstance(value, str) or value in _OWN:
        return
    if value == "jinja":
        problems.add(key, "'jinja' alone", "its text as well", "add `chat_template_jinja`, the text or its file")
        return
    name = value.removeprefix(FALLBACK)
    if name in sources.names() or not _NAME.fullmatch(name) or _SUFFIX.search(name):
        return
    near = nearest_name(name, sources.names())
    fix = f"did you mean `{value.removesuffix(name)}{near}`?" if near else _OWN_TEMPLATE
    problems.add(key, shown(value), f"one of {', '.join(sources.names())}", fix)


def check_llama_factory_template(value: Any, problems: Problems) -> bool:
    """The key `template` of a LLaMA-Factory file: its names often have another text here; whether this one has not."""
    if value in _SAME:
        return True
    ours = _OTHER_NAMES.get(value) if isinstance(value, str) else None
    fix = f"write `chat_template: {ours}`" if ours else f"{_OWN_TEMPLATE}; the library's are named by `chat_template`"
    expected = f"a template whose text is the same here ({', '.join(_SAME)}), or none"
    problems.add("template", shown(value), expected, fix)
    return False


def jinja_beside(found: dict[str, Any], key: str, problems: Problems) -> None:
    """A template as text; `chat_template: jinja` says no more than that there is one."""
    text = found.pop("chat_template_jinja")
    if text is None:
        return
    if found.get("chat_template") == "jinja":
        del found["chat_template"]
    say(found, "chat_template", text, key, problems)
