"""What axolotl and LLaMA-Factory call things: a configuration in their words in, the same in ours out.

A word means what it means there, or is refused with what to write instead. Keys of the trainer alone are taken out and
listed. Sources: the schemas of axolotl 0.19 (`utils/schemas`), the arguments of LLaMA-Factory 0.9.5 (`hparams`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from instruct_fmt.errors import shown
from instruct_fmt.run.config.foreign_keys import HARMLESS, REFUSED, is_trainers
from instruct_fmt.run.config.foreign_templates import check_llama_factory_template, check_template, jinja_beside
from instruct_fmt.run.config.problems import Problems, say

__all__ = ["in_our_words"]

Raw = dict[str, Any]

_EXCESS = {"drop": "drop", "truncate": "truncate", "raise": "error"}
_PREFERENCE = (
    "rm", "ppo", "dpo", "kto", "orpo", "simpo", "ipo", "grpo", "gdpo", "bco",
)  # fmt: skip
# One of these, and the file is LLaMA-Factory's.
_LLAMA_FACTORY = ("stage", "finetuning_type", "dataset_dir", "mask_history", "train_on_prompt")


def in_our_words(raw: Raw, problems: Problems) -> Raw:
    """A whole configuration; what is none of ours is in `problems.left` afterwards."""
    found = {**raw}
    if any(key in found for key in _LLAMA_FACTORY):
        _of_llama_factory(found, problems)
    _refuse_preferences(found, problems)
    for key, (expected, fix) in REFUSED.items():
        value = found.pop(key, None)
        if value and value != HARMLESS.get(key):
            problems.add(key, shown(value), expected, fix)
    for key, meaning in _MEANINGS.items():
        if key in found:
            meaning(found, problems)
    for name in ("chat_template", "template"):
        check_template(found.get(name), name, problems)
    for key in [key for key in found if isinstance(key, str) and is_trainers(key)]:
        del found[key]
        problems.left.append(key)
    return found


def _refuse_preferences(found: Raw, problems: Problems) -> None:
    for key in ("stage", "rl"):
        value = found.pop(key, None)
        if value in _PREFERENCE:
            fix = f"take `{key}` out, and train on the chosen answers: `field_map: {{completion: chosen}}`"
            problems.add(key, shown(value), "supervised training; preferences are not supported", fix)
        elif value not in (None, "sft"):
            fix = "write `format: text` for a dataset of plain text" if value == "pt" else f"take `{key}` out"
            problems.add(key, shown(value), "`sft`", fix)
    for key in ("reward_model", "process_reward_model"):
        # The same word is a model's name in LLaMA-Factory.
        if found.pop(key, None):
            problems.add(key, "a reward model", "supervised training; rewards are not supported", f"take `{key}` out")


# LLaMA-Factory's own


def _of_llama_factory(found: Raw, problems: Problems) -> None:
    """Where a word means another thing in such a file: `template`, `dataset`."""
    template = found.pop("template", None)
    if template is not None and check_llama_factory_template(template, problems):
        say(found, "chat_template", template, "template", problems)
    names, folder, limit = (found.pop(key, None) for key in ("dataset", "dataset_dir", "max_samples"))
    if names is None and "datasets" in found:
        _sliced(limit, problems)
        return
    folder = "data" if folder is None else folder
    listed = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
    if not isinstance(listed, list) or not all(isinstance(name, str) and name for name in listed):
        fix = "name entries of dataset_info.json in `dataset`"
        problems.add("dataset", shown(names), "names, with commas between them", fix)
    elif not isinstance(folder, str) or folder == "ONLINE" or folder.startswith("REMOTE:"):
        fix = "write `datasets: [{path: a name on the Hub, format: alpaca}]` in place of `dataset`"
        problems.add("dataset_dir", shown(folder), "a folder with a dataset_info.json", fix)
    elif limit is not None and (not isinstance(limit, int) or limit < 1):
        problems.add("max_samples", shown(limit), "a number of rows", "take `max_samples` out for all of them")
    else:
        # A slice alone is one of the entry's own split.
        split = {} if limit is None else {"split": f"[:{limit}]"}
        listed = [{"dataset_info": f"{folder}/dataset_info.json", "name": name, **split} for name in listed]
    say(found, "datasets", listed, "dataset", problems)


def _sliced(limit: Any, problems: Problems) -> None:
    if limit is not None:
        problems.add("max_samples", shown(limit), "a slice", f"write `split: train[:{limit}]` under each dataset")


def _mask_history(found: Raw, problems: Problems) -> None:
    if not found.pop("mask_history"):
        return
    if found.get("train_on_prompt") or found.get("train_on_inputs"):
        fix = "take one of them out"
        problems.add("mask_history", "true beside the training of prompts", "one of them", fix)
        return
    say(found, "train_on", "last", "mask_history", problems)


def _enable_thinking(found: Raw, problems: Problems) -> None:
    value = found.pop("enable_thinking")
    name = "chat_template_kwargs" if "chat_template_kwargs" in found else "template_kwargs"
    given = found.get(name) or {}
    if value is not None and isinstance(given, dict):
        found[name] = dict(given)
        say(found[name], "enable_thinking", value, "enable_thinking", problems)


# both


def _validation(key: str, found: Raw, problems: Problems) -> None:
    value = found.pop(key)
    if value is None or (value == 0 and not isinstance(value, bool)):
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        problems.add(key, shown(value), "a number", f"take `{key}` out")
        return
    # A slice knows whole percents; one is held out at least.
    share = max(1, min(99, math.floor(100 - 100 * value + 1e-6)))
    kept = f"train[:{share}%]" if value < 1 else f"train[:-{int(value)}]"
    problems.add(
        key,
        shown(value),
        "rows to train on only; nothing is held out here",
        f"write `split: {kept}` under each dataset, and prepare the rest by a configuration of its own",
    )


def _packing(key: str, found: Raw, problems: Problems) -> None:
    if found.pop(key):
        say(found, "packing", True, key, problems)


def _renamed(old: str, new: str, found: Raw, problems: Problems) -> None:
    value = found.pop(old)
    if value is not None:
        say(found, new, value, old, problems)


def _excess(found: Raw, problems: Problems) -> None:
    value = found.pop("excess_length_strategy")
    if value is None:
        return
    if not isinstance(value, str) or value not in _EXCESS:
        problems.add("excess_length_strategy", shown(value), "drop, truncate or raise", "write one of them")
        return
    say(found, "overlength", _EXCESS[value], "excess_length_strategy", problems)


def _eot(found: Raw, problems: Problems) -> None:
    value = found.pop("eot_tokens")
    more = [value] if isinstance(value, str) else value
    given = found.get("stop") or []
    given = [given] if isinstance(given, str) else given
    if more is None:
        return
    if not isinstance(more, list) or not isinstance(given, list):
        problems.add("eot_tokens", shown(value), "a list of tokens", "write `eot_tokens: ['<|im_end|>']`")
        return
    found["stop"] = [*given, *(token for token in more if token not in given)]


def _special_tokens(found: Raw, problems: Problems) -> None:
    """The pad token is the trainer's; no label depends on it."""
    value = found.pop("special_tokens")
    if not value:
        return
    kept = value
    if isinstance(value, dict):
        kept = {kind: token for kind, token in value.items() if token is not None}
        if kept.pop("pad_token", None) is not None:
            problems.left.append("special_tokens.pad_token")
        more = kept.pop("additional_special_tokens", None)
        if more:
            fix = "add them to a tokenizer, save it, and name its folder under `tokenizer`"
            problems.add("special_tokens.additional_special_tokens", shown(more), "none", fix)
    if kept:
        found["special_tokens"] = kept


_MEANINGS: Mapping[str, Callable[[Raw, Problems], None]] = {
    "max_samples": lambda found, problems: _sliced(found.pop("max_samples"), problems),
    "val_set_size": partial(_validation, "val_set_size"),
    "val_size": partial(_validation, "val_size"),
    "sample_packing": partial(_packing, "sample_packing"),
    "neat_packing": partial(_packing, "neat_packing"),
    "mask_history": _mask_history,
    "train_on_eot": partial(_renamed, "train_on_eot", "train_on_eos"),
    "train_on_prompt": partial(_renamed, "train_on_prompt", "train_on_inputs"),
    "enable_thinking": _enable_thinking,
    "excess_length_strategy": _excess,
    "chat_template_jinja": lambda found, problems: jinja_beside(found, "chat_template_jinja", problems),
    "eot_tokens": _eot,
    "special_tokens": _special_tokens,
}
