"""What axolotl and LLaMA-Factory call things: a configuration in their words in, the same in ours out.

A word means what it means there, or is refused with what to write instead. Keys of the trainer alone are taken out and
listed. Sources: the schemas of axolotl 0.19 (`utils/schemas`), the arguments of LLaMA-Factory 0.9.5 (`hparams`).
"""

from __future__ import annotations

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
# Keys that mean the same here, and may be without a value there.
_OURS_TOO = ("seed", "shuffle", "shuffle_merged_datasets", "dataset_exact_deduplication", "max_samples")


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
    held_out = found.pop("eval_dataset", None)
    names, folder = (found.pop(key, None) for key in ("dataset", "dataset_dir"))
    folder = "data" if folder is None else folder
    if names is not None or "datasets" not in found:
        _entries(found, "dataset", names, folder, problems)
    if held_out is not None:
        _entries(found, "eval_dataset", held_out, folder, problems)


def _entries(found: Raw, key: str, names: Any, folder: Any, problems: Problems) -> None:
    """Names of entries of a dataset_info.json as datasets."""
    listed = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
    if not isinstance(listed, list) or not all(isinstance(name, str) and name for name in listed):
        fix = f"name entries of dataset_info.json in `{key}`"
        problems.add(key, shown(names), "names, with commas between them", fix)
    elif not isinstance(folder, str) or folder == "ONLINE" or folder.startswith("REMOTE:"):
        fix = "write `datasets: [{path: a name on the Hub, format: alpaca}]` in place of `dataset`"
        problems.add("dataset_dir", shown(folder), "a folder with a dataset_info.json", fix)
    else:
        listed = [{"dataset_info": f"{folder}/dataset_info.json", "name": name} for name in listed]
    say(found, "datasets" if key == "dataset" else "validation_datasets", listed, key, problems)


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


def _held_out(key: str, found: Raw, problems: Problems) -> None:
    """A share or a number of rows; 0 is none."""
    value = found.pop(key)
    if value is None or (value == 0 and not isinstance(value, bool)):
        return
    whole = isinstance(value, float) and value >= 1 and value.is_integer()
    say(found, "validation", int(value) if whole else value, key, problems)


_MIXES = {"concat": None, "interleave_under": "first_exhausted", "interleave_over": "all_exhausted"}


def _mixed(found: Raw, problems: Problems) -> None:
    value = found.pop("mix_strategy")
    if value is None or value == "concat":
        return
    if not isinstance(value, str) or value not in _MIXES:
        problems.add("mix_strategy", shown(value), ", ".join(_MIXES), "write one of them")
        return
    say(found, "interleave", _MIXES[value], "mix_strategy", problems)


def _probabilities(found: Raw, problems: Problems) -> None:
    """Probabilities of the datasets, in their order, which are weights here."""
    value = found.pop("interleave_probs")
    given = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if given is None:
        return
    datasets = found.get("datasets")
    try:
        weights = [float(part) for part in given]
    except (TypeError, ValueError):
        problems.add("interleave_probs", shown(value), "numbers, with commas between them", "correct it")
        return
    if not isinstance(datasets, list) or len(datasets) != len(weights):
        problems.add(
            "interleave_probs", shown(value), "a number for each dataset", "write `weight` beside each dataset"
        )
        return
    entries = [{"path": entry} if isinstance(entry, str) else entry for entry in datasets]
    if all(isinstance(entry, dict) for entry in entries):
        found["datasets"] = [{**entry, "weight": weight} for entry, weight in zip(entries, weights, strict=True)]


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


def _unsaid(key: str, found: Raw, problems: Problems) -> None:
    """A key without a value."""
    if found[key] is None:
        del found[key]


_MEANINGS: Mapping[str, Callable[[Raw, Problems], None]] = {
    **{key: partial(_unsaid, key) for key in _OURS_TOO},
    "val_set_size": partial(_held_out, "val_set_size"),
    "val_size": partial(_held_out, "val_size"),
    "mix_strategy": _mixed,
    "interleave_probs": _probabilities,
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
