r"""axolotl's types of datasets that are a text: the type in, a record template and the dataset's columns out.

Source of the texts: the prompters of axolotl 0.19 (`prompters.py`, `prompt_strategies`). A prompt is masked there, and
the answer follows it with no space between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from instruct_fmt.template.source.format_string import to_jinja

__all__ = ["TYPES", "TextType", "branches"]

_TASK = "Below is an instruction that describes a task"
_FROM_USER = "Below is an instruction from a USER that describes a task"
_CONTEXT = ", paired with an input that provides further context"
_RESPOND = ". Write a response that appropriately completes the request."
_CONCISE = ". The ASSISTANT writes a response that concisely and appropriately completes the request.\n\n"
_CONCISE_SHORT = ". The ASSISTANT writes a response that appropriately and concisely completes the request.\n\n"

_CHAT = "USER: {instruction}\n{input}\nASSISTANT:{output}"
_CHAT_SHORT = "USER: {instruction}\nASSISTANT:{output}"
_INSTRUCT = "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n{output}"
_INSTRUCT_SHORT = "### Instruction:\n{instruction}\n\n### Response:\n{output}"
_CHATML = "<|im_start|>user\n{instruction}\n{input}<|im_end|>\n<|im_start|>assistant\n{output}"
_CHATML_SHORT = "<|im_start|>user\n{instruction}<|im_end|>\n<|im_start|>assistant\n{output}"
_CHATML_SYSTEM = "<|im_start|>system\n{system}<|im_end|>\n"


@dataclass(frozen=True, slots=True)
class TextType:
    """What becomes of a row.

    Attributes:
        template: a name of the library, or Jinja text.
        columns: the template's names → the dataset's columns, where they differ.
    """

    template: str
    columns: Mapping[str, str] = field(default_factory=dict)


def branches(full: str, short: str, system: str = "") -> str:
    r"""Jinja text of two format strings, for rows with an input and without, behind one for rows with a system prompt.

    >>> branches("{a} {input}", "{a}").count("if input")
    1
    """
    front = f"{{% if system %}}{to_jinja(system)}{{% endif %}}" if system else ""
    return f"{front}{{% if input %}}{to_jinja(full)}{{% else %}}{to_jinja(short)}{{% endif %}}"


def _chat(context: str, short: str) -> str:
    return branches(f"SYSTEM: {context}\n{_CHAT}", f"SYSTEM: {short}\n{_CHAT_SHORT}")


_ALPACA_CHAT = _chat(_TASK + _CONTEXT + _RESPOND, _TASK + _RESPOND)
_ALPACA_CHATML = branches(
    _CHATML_SYSTEM.replace("{system}", _TASK + _CONTEXT + _RESPOND) + _CHATML,
    _CHATML_SYSTEM.replace("{system}", _TASK + _RESPOND) + _CHATML_SHORT,
)
_CONCISE_CHAT = _chat(_FROM_USER + _CONTEXT + _CONCISE, _FROM_USER + _CONCISE_SHORT)
_PAIR = f"SYSTEM: {_FROM_USER}{_CONCISE_SHORT}\nUSER: {{question}}\nASSISTANT:{{answer}}"
_ORCA_COLUMNS = {"instruction": "question", "output": "response", "system": "system_prompt"}
_ORCA = "{% if system %}" + to_jinja("### System:\n{system}\n") + "{% endif %}"
_ORCA_CHATML = "{% if system %}" + to_jinja(_CHATML_SYSTEM) + "{% endif %}"
_W_SYSTEM_CHAT = TextType(branches(_CHAT, _CHAT_SHORT, "SYSTEM: {system}\n"))

TYPES: Mapping[str, TextType] = {
    "alpaca": TextType("alpaca"),
    "alpaca:instruct": TextType("alpaca"),
    "alpaca:chat": TextType(_ALPACA_CHAT),
    "alpaca:chatml": TextType(_ALPACA_CHATML),
    "alpaca_instruct": TextType("alpaca"),
    "alpaca_instruct.load": TextType("alpaca"),
    "alpaca_instruct.load_no_prompt": TextType("alpaca_short"),
    "alpaca_chat": TextType(_ALPACA_CHAT),
    "alpaca_chat.load": TextType(_ALPACA_CHAT),
    "alpaca_chat.load_concise": TextType(_CONCISE_CHAT),
    "alpaca_chat.load_no_prompt": TextType(branches(_CHAT, _CHAT_SHORT)),
    "alpaca_chat.load_qa": TextType(_PAIR),
    "alpaca_chat.load_camel_ai": TextType(_PAIR, {"question": "message_1", "answer": "message_2"}),
    "alpaca_w_system": _W_SYSTEM_CHAT,
    "alpaca_w_system.load": _W_SYSTEM_CHAT,
    "alpaca_w_system.load_chat": _W_SYSTEM_CHAT,
    "alpaca_w_system.load_instruct": TextType(branches(_INSTRUCT, _INSTRUCT_SHORT, "{system}\n\n")),
    "alpaca_w_system.load_open_orca": TextType(
        _ORCA + to_jinja("### Human:\n{instruction}\n### Assistant:\n{output}"), _ORCA_COLUMNS
    ),
    "alpaca_w_system.load_open_orca_chatml": TextType(_ORCA_CHATML + to_jinja(_CHATML_SHORT), _ORCA_COLUMNS),
    "gpteacher": TextType("alpaca", {"output": "response"}),
    "oasst": TextType("alpaca", {"instruction": "INSTRUCTION", "output": "RESPONSE"}),
}
