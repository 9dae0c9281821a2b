"""What axolotl and LLaMA-Factory call things: a configuration in their words in, the same in ours out.

A word means what it means there, or is refused with what to write instead. Keys of the trainer alone are taken out and
listed. Sources: the schemas and prompt strategies of axolotl 0.19, the arguments of LLaMA-Factory 0.9.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from instruct_fmt.errors import UsageError, shown
from instruct_fmt.run.foreign_keys import is_trainers
from instruct_fmt.run.problems import Problems
from instruct_fmt.template.format_string import to_jinja

__all__ = ["dataset_in_our_words", "in_our_words"]

Raw = dict[str, Any]

# The loaders of `datasets` that take files by name.
_BUILDERS = frozenset({"json", "csv", "parquet", "arrow", "text"})
_EXCESS = {"drop": "drop", "truncate": "truncate", "raise": "error"}
_PREFERENCE = frozenset({"rm", "ppo", "dpo", "kto", "orpo", "simpo", "ipo", "grpo", "gdpo", "bco"})
# What our key `format` takes, and a type may be.
_FORMATS = frozenset(
    {
        "messages", "openai", "prompt_completion", "prompt-completion", "instruction", "instruct", "prompt_response",
        "text", "record",
    }
)  # fmt: skip
_FIELDS = {
    "field_tools": "tools",
    "field_system": "system",
    "field_thinking": "reasoning_content",
    "message_field_role": "role",
    "message_field_content": "content",
    "message_field_training": "train",
}
_USER_DEFINED = {
    "field_system": "system",
    "field_instruction": "instruction",
    "field_input": "input",
    "field_output": "output",
}
_PACKING = "packing=True in sft_kwargs(fmt, packing=True), which the trainer gets"


def in_our_words(raw: Raw, problems: Problems) -> Raw:
    """A whole configuration; what is none of ours is in `problems.left` afterwards."""
    found = {**raw}
    if isinstance(found.get("special_tokens"), dict):
        found["special_tokens"] = dict(found["special_tokens"])
    _refuse_preferences(found, problems)
    for key, meaning in _TOP.items():
        if key in found:
            meaning(found, problems)
    for key in [key for key in found if isinstance(key, str) and is_trainers(key)]:
        del found[key]
        problems.left.append(key)
    return found


def dataset_in_our_words(raw: Raw, key: str, problems: Problems) -> list[Raw]:
    """One entry of `datasets`; several files make several entries."""
    found = dict(raw)
    for name, ours in _FIELDS.items():
        if found.get(name) is not None:
            found["field_map"] = {**(found.get("field_map") or {}), ours: found.pop(name)}
    for name, meaning in _OF_DATASET.items():
        if name in found:
            meaning(found, f"{key}{name}", problems)
    for name in [name for name in found if isinstance(name, str) and is_trainers(name)]:
        del found[name]
        problems.left.append(f"{key}{name}")
    return _files(found, key, problems)


# the whole run


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
        if found.pop(key, None):
            problems.add(key, "true", "supervised training; rewards are not supported", f"take `{key}` out")


def _validation(key: str) -> Callable[[Raw, Problems], None]:
    def meaning(found: Raw, problems: Problems) -> None:
        value = found.pop(key)
        if value in (None, 0) or not isinstance(value, int | float):
            if value not in (None, 0):
                problems.add(key, shown(value), "a number", f"take `{key}` out")
            return
        kept = f"train[:{round(100 - 100 * value)}%]" if value < 1 else f"train[:-{int(value)}]"
        problems.add(
            key,
            shown(value),
            "rows to train on only; nothing is held out here",
            f"write `split: {kept}` under each dataset, and prepare the rest by a configuration of its own",
        )

    return meaning


def _refused(key: str, expected: str, fix: str) -> Callable[[Raw, Problems], None]:
    """A key that may be off, but not on."""

    def meaning(found: Raw, problems: Problems) -> None:
        value = found.pop(key)
        if value:
            problems.add(key, shown(value), expected, fix)

    return meaning


def _packing(key: str) -> Callable[[Raw, Problems], None]:
    def meaning(found: Raw, problems: Problems) -> None:
        if found.pop(key):
            problems.left.append(f"{key} ({_PACKING})")

    return meaning


def _train_on_prompt(found: Raw, problems: Problems) -> None:
    found.setdefault("train_on_inputs", found.pop("train_on_prompt"))


def _mask_history(found: Raw, problems: Problems) -> None:
    if found.pop("mask_history"):
        found.setdefault("train_on", "last")


def _enable_thinking(found: Raw, problems: Problems) -> None:
    value = found.pop("enable_thinking")
    if value is not None:
        name = "chat_template_kwargs" if "chat_template_kwargs" in found else "template_kwargs"
        found[name] = {**(found.get(name) or {}), "enable_thinking": value}


def _excess(found: Raw, problems: Problems) -> None:
    value = found.pop("excess_length_strategy")
    if value is None:
        return
    if value not in _EXCESS:
        problems.add("excess_length_strategy", shown(value), "drop, truncate or raise", "write one of them")
    found.setdefault("overlength", _EXCESS.get(value, "drop"))


def _jinja(found: Raw, key: str, problems: Problems) -> None:
    """A template as text; `chat_template: jinja` says no more than that there is one."""
    text = found.pop("chat_template_jinja")
    if text is None:
        return
    if found.get("chat_template") not in (None, "jinja"):
        found_two = f"a template beside `chat_template: {found['chat_template']}`"
        problems.add(key, found_two, "one template", "write `chat_template: jinja`, or take one of the two out")
    found["chat_template"] = text


def _eot(found: Raw, problems: Problems) -> None:
    value = found.pop("eot_tokens")
    if value:
        found["stop"] = [*(found.get("stop") or []), *value]


def _datasets_by_name(found: Raw, problems: Problems) -> None:
    """LLaMA-Factory's `dataset: a,b`, entries of the file `dataset_info.json` in `dataset_dir`."""
    folder = found.pop("dataset_dir")
    names = found.pop("dataset", None)
    limit = found.pop("max_samples", None)
    if not isinstance(names, str | list) or not isinstance(folder, str):
        expected = "`dataset: name` beside `dataset_dir: folder`"
        problems.add("dataset_dir", shown(folder), expected, "name the entries of dataset_info.json in `dataset`")
        return
    listed = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
    split = {} if limit is None else {"split": f"train[:{limit}]"}
    found["datasets"] = [{"dataset_info": f"{folder}/dataset_info.json", "name": name, **split} for name in listed]


def _max_samples(found: Raw, problems: Problems) -> None:
    value = found.pop("max_samples")
    if value is not None:
        problems.add("max_samples", shown(value), "a slice", f"write `split: train[:{value}]` under each dataset")


def _special_tokens(found: Raw, problems: Problems) -> None:
    """The pad token is the trainer's; no label depends on it."""
    value = found["special_tokens"]
    if isinstance(value, dict) and value.pop("pad_token", None) is not None:
        problems.left.append("special_tokens.pad_token")
    if not value:
        del found["special_tokens"]


_TOP: Mapping[str, Callable[[Raw, Problems], None]] = {
    "dataset_dir": _datasets_by_name,
    "max_samples": _max_samples,
    "val_set_size": _validation("val_set_size"),
    "val_size": _validation("val_size"),
    "test_datasets": _refused("test_datasets", "none", "prepare them by a configuration of their own"),
    "eval_dataset": _refused("eval_dataset", "none", "prepare it by a configuration of its own"),
    "pretraining_dataset": _refused("pretraining_dataset", "`datasets`", "write `datasets` with `format: text`"),
    "streaming": _refused("streaming", "false", "use dataset.map(fmt, batched=True) on a stream"),
    "dataset_exact_deduplication": _refused(
        "dataset_exact_deduplication", "false; rows are not compared here", "take doubles out of the data"
    ),
    "skip_prepare_dataset": _refused("skip_prepare_dataset", "false", "hand prepared data to the trainer"),
    "tokens": _refused("tokens", "none", "add them to a tokenizer, save it, and name its folder under `tokenizer`"),
    "added_tokens_overrides": _refused(
        "added_tokens_overrides", "none", "change a tokenizer, save it, and name its folder under `tokenizer`"
    ),
    "train_on_eot": lambda found, problems: found.setdefault("train_on_eos", found.pop("train_on_eot")),
    "sample_packing": _packing("sample_packing"),
    "packing": _packing("packing"),
    "train_on_prompt": _train_on_prompt,
    "mask_history": _mask_history,
    "enable_thinking": _enable_thinking,
    "excess_length_strategy": _excess,
    "chat_template_jinja": lambda found, problems: _jinja(found, "chat_template_jinja", problems),
    "eot_tokens": _eot,
    "special_tokens": _special_tokens,
}


# one dataset


def _type(found: Raw, key: str, problems: Problems) -> None:
    """What a dataset's rows are and what becomes of them, in one word."""
    value = found.pop("type")
    if isinstance(value, dict):
        _user_defined(found, value, key, problems)
    elif value == "alpaca":
        # Alpaca's own text, whatever the chat template.
        found.pop("chat_template", None)
        found["template"] = "alpaca"
    elif value == "completion":
        found["format"] = "text"
        if found.get("field") is not None:
            found["field_map"] = {**(found.get("field_map") or {}), "text": found.pop("field")}
    elif isinstance(value, str) and (value == "sharegpt" or value.startswith("sharegpt.")):
        found["format"] = "sharegpt"
    elif value in _FORMATS:
        found["format"] = value
    elif value not in (None, "chat_template"):
        expected = "alpaca, chat_template, completion, sharegpt, or a mapping with `format` and `field_instruction`"
        fix = (
            "name the layout of the rows with `format`, and write the text as a template, such as "
            '`template: "USER: {instruction}\\nASSISTANT: {output}"`'
        )
        problems.add(key, shown(value), expected, fix)


def _user_defined(found: Raw, said: Raw, key: str, problems: Problems) -> None:
    """A type of one's own: two format strings, with an input and without one, and the names of columns."""
    known = {"system_prompt", "system_format", "format", "no_input_format", *_USER_DEFINED}
    for name in sorted(set(said) - known):
        problems.add(f"{key}.{name}", "an unknown key", ", ".join(sorted(known)), "remove it")
    columns = {ours: said[name] for name, ours in _USER_DEFINED.items() if said.get(name) is not None}
    system = said.get("system_prompt") or ""
    front = (said.get("system_format") or "{system}") if system or "system" in columns else ""
    if "system" not in columns:
        front = front.replace("{system}", system.replace("{", "{{").replace("}", "}}"))
    texts = [said.get("format") or "{instruction} {input} ", said.get("no_input_format") or "{instruction} "]
    try:
        full, short = (to_jinja(front + text + "{output}") for text in texts)
    except UsageError as error:
        problems.add(key, str(error), "format strings with {instruction} and {input}", "correct them")
        return
    found["template"] = f"{{% if input %}}{full}{{% else %}}{short}{{% endif %}}"
    found["columns"] = {**(found.get("columns") or {}), **columns}


def _roles(found: Raw, key: str, problems: Problems) -> None:
    """axolotl's roles name their sources; ours are the other way round."""
    value = found.get("roles")
    if isinstance(value, dict) and any(isinstance(sources, list) for sources in value.values()):
        turned: dict[str, str] = {}
        for role, sources in value.items():
            for source in sources if isinstance(sources, list) else [sources]:
                turned[source] = role
        found["roles"] = turned


def _dropped(expected: str, fix: str) -> Callable[[Raw, str, Problems], None]:
    def meaning(found: Raw, key: str, problems: Problems) -> None:
        value = found.pop(key.rpartition(".")[2])
        if value:
            problems.add(key, shown(value), expected, fix)

    return meaning


def _shards(found: Raw, key: str, problems: Problems) -> None:
    count, which = found.pop("shards"), found.pop("shards_idx", 0) or 0
    if count:
        first, last = round(100 * which / count), round(100 * (which + 1) / count)
        problems.add(key, shown(count), "a slice", f"write `split: train[{first}%:{last}%]`")


def _thinking_key(found: Raw, key: str, problems: Problems) -> None:
    value = found.pop("template_thinking_key")
    if value not in (None, "reasoning_content", "thinking", "reasoning"):
        problems.add(key, shown(value), "reasoning_content", "name the dataset's field with `field_thinking`")


def _ds_type(found: Raw, key: str, problems: Problems) -> None:
    value = found.pop("ds_type")
    if value is not None and value not in _BUILDERS:
        problems.add(key, shown(value), ", ".join(sorted(_BUILDERS)), "take `ds_type` out: the file's name tells")


def _formatting(found: Raw, key: str, problems: Problems) -> None:
    """LLaMA-Factory's layouts are ours; OpenAI's has the name of its messages here."""
    found.setdefault("format", found.pop("formatting"))


def _conversation(found: Raw, key: str, problems: Problems) -> None:
    value = found.pop("conversation")
    if value is not None:
        problems.add(key, shown(value), "a template", f"write `chat_template: {value}`, if the library has it")


_OF_DATASET: Mapping[str, Callable[[Raw, str, Problems], None]] = {
    "chat_template_jinja": lambda found, key, problems: _jinja(found, key, problems),
    "type": _type,
    "formatting": _formatting,
    "roles": _roles,
    "ds_type": _ds_type,
    "shards": _shards,
    "template_thinking_key": _thinking_key,
    "conversation": _conversation,
    "train_on_eot": lambda found, key, problems: found.setdefault("train_on_eos", found.pop("train_on_eot")),
    "message_field_training_detail": _dropped("flags for whole messages", "write `message_field_training`"),
    "drop_system_message": _dropped("false", "take system messages out of the data"),
    "split_thinking": _dropped("false", "write `reasoning: field` for the whole run"),
    "input_transform": _dropped("none", "change the data first"),
    "revision": _dropped("none", "download that revision, and name its folder under `path`"),
}


def _files(found: Raw, key: str, problems: Problems) -> list[Raw]:
    """`path: json` and `data_files`: the files themselves."""
    files = found.pop("data_files", None)
    path = found.get("path")
    if files is None:
        if path in _BUILDERS:
            problems.add(f"{key}path", shown(path), "a file", "name the file under `data_files`, or as `path`")
        return [found]
    names = [files] if isinstance(files, str) else files
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not names:
        problems.add(f"{key}data_files", shown(files), "the name of a file, or a list of names", "name the files")
        return [found]
    if path is not None and path not in _BUILDERS:
        names = [f"{path}/{name}" for name in names]
    return [{**found, "path": name} for name in names]
