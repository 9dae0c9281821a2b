"""One entry of `datasets` in the words of axolotl and LLaMA-Factory in, the same in ours out.

Sources: `utils/schemas/datasets.py` and the prompt strategies of axolotl 0.19, `data/README.md` of LLaMA-Factory 0.9.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from instruct_fmt.adapt.detect import NAMES
from instruct_fmt.common.names import nearest_name
from instruct_fmt.errors import UsageError, shown
from instruct_fmt.run.config.axolotl_types import TYPES, branches
from instruct_fmt.run.config.foreign_keys import is_trainers
from instruct_fmt.run.config.foreign_templates import check_template, jinja_beside
from instruct_fmt.run.config.problems import Problems, say
from instruct_fmt.template.source.format_string import to_jinja

__all__ = ["dataset_in_our_words"]

Raw = dict[str, Any]

# The loaders of `datasets` that take files by name.
_BUILDERS = ("json", "csv", "parquet", "arrow", "text")
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
_FORMATS_OF_TEXT = ("system_prompt", "system_format", "format", "no_input_format")


def dataset_in_our_words(raw: Raw, key: str, problems: Problems, inputs: object = None) -> list[Raw]:
    """One entry of `datasets`; several files make several entries.

    Args:
        raw: the entry.
        key: what leads to it, such as ``datasets.0.``.
        problems: where what does not fit goes, and what is left to the trainer.
        inputs: the run's `train_on_inputs`.
    """
    found = dict(raw)
    if found.get("roles_to_train") is not None and inputs is True:
        fix = "take `train_on_inputs` out, or the roles"
        problems.add("train_on_inputs", f"true beside `{key}roles_to_train`", "one of them", fix)
    for name, ours in _FIELDS.items():
        if name in found:
            _named(found, "field_map", ours, found.pop(name), f"{key}{name}", problems)
    for name, meaning in _MEANINGS.items():
        if name in found:
            meaning(found, f"{key}{name}", problems)
    for name in ("chat_template", "template"):
        check_template(found.get(name), f"{key}{name}", problems)
    for name in [name for name in found if isinstance(name, str) and is_trainers(name)]:
        del found[name]
        problems.left.append(f"{key}{name}")
    return _files(found, key, problems)


def _named(found: Raw, where: str, ours: str, theirs: Any, key: str, problems: Problems) -> None:
    """Add a name to the mapping at `where`; what is no mapping is left to the schema."""
    if theirs is None:
        return
    names = found.get(where) or {}
    if isinstance(names, dict):
        found[where] = dict(names)
        say(found[where], ours, theirs, key, problems)


# what the rows are


def _type(found: Raw, key: str, problems: Problems) -> None:
    """What a dataset's rows are and what becomes of them, in one word."""
    value = found.pop("type")
    if isinstance(value, dict):
        _user_defined(found, value, key, problems)
    elif isinstance(value, str) and value in TYPES:
        # A text of its own, whatever the chat template.
        _text(found, TYPES[value].template, TYPES[value].columns, key, problems)
    elif value == "completion":
        say(found, "format", "text", key, problems)
        _named(found, "field_map", "text", found.pop("field", None), key, problems)
    elif isinstance(value, str) and (value == "sharegpt" or value.startswith("sharegpt.")):
        say(found, "format", "sharegpt", key, problems)
    elif value in NAMES:
        say(found, "format", value, key, problems)
    elif value == "input_output":
        problems.add(
            key,
            "'input_output'",
            "rows without segments",
            "write the segments before the last into a column `prompt`, the last into `completion`, and "
            "`format: prompt_completion`",
        )
    elif value not in (None, "chat_template"):
        near = nearest_name(value, TYPES) if isinstance(value, str) else None
        problems.add(
            key,
            shown(value),
            "alpaca, chat_template, completion, sharegpt, or a mapping with `format` and `field_instruction`",
            f"did you mean `{near}`?"
            if near
            else "name the layout of the rows with `format`, and write the text as a template, such as "
            '`template: "USER: {instruction}\\nASSISTANT: {output}"`',
        )


def _text(found: Raw, template: str, columns: Mapping[str, str], key: str, problems: Problems) -> None:
    found.pop("chat_template", None)
    found.pop("chat_template_jinja", None)
    say(found, "template", template, key, problems)
    if columns and isinstance(found.get("columns") or {}, dict):
        found["columns"] = {**columns, **(found.get("columns") or {})}


def _user_defined(found: Raw, said: Raw, key: str, problems: Problems) -> None:
    """A type of one's own: two format strings, with an input and without one, and the names of columns."""
    known = [*_FORMATS_OF_TEXT, *_USER_DEFINED]
    for name in said:
        near = nearest_name(str(name), known)
        if name not in known:
            fix = f"did you mean `{near}`?" if near else "remove it"
            problems.add(f"{key}.{name}", "an unknown key", near or ", ".join(known), fix)
        elif said[name] is not None and not isinstance(said[name], str):
            problems.add(f"{key}.{name}", shown(said[name]), "text", "put it in quotes")
            return
    if "{input}" in (said.get("no_input_format") or ""):
        fix = "take {input} out; rows with an input have `format`"
        problems.add(f"{key}.no_input_format", "{input}", "a text for rows without an input", fix)
    columns = {ours: said[name] for name, ours in _USER_DEFINED.items() if said.get(name) is not None}
    texts = [said.get("format") or "{instruction} {input} ", said.get("no_input_format") or "{instruction} "]
    try:
        body = branches(*(text + "{output}" for text in texts))
        front = _front(said)
    except UsageError as error:
        problems.add(key, str(error), "format strings with {instruction} and {input}", "correct them")
        return
    _text(found, front + body, columns, key, problems)


def _front(said: Raw) -> str:
    """The system prompt: the row's where there is such a column, else the one of the type."""
    form = said.get("system_format") or "{system}"
    if "{system}" not in form:
        raise UsageError(f"system_format: found {form!r} without {{system}}")
    own = f"{{% if system %}}{to_jinja(form)}{{% endif %}}"
    if not said.get("system_prompt"):
        return own
    before, after = form.split("{system}", 1)
    prompt = said["system_prompt"].replace("{", "{{").replace("}", "}}")
    # A format string names a column; this one has none.
    fixed = to_jinja(f"{before}{prompt}{after}{{x}}").removesuffix("{{ x }}")
    return f"{{% if system is defined %}}{own}{{% else %}}{fixed}{{% endif %}}"


def _roles(found: Raw, key: str, problems: Problems) -> None:
    """axolotl's roles name their sources; ours are the other way round."""
    value = found.get("roles")
    if not isinstance(value, dict) or not any(isinstance(sources, list) for sources in value.values()):
        return
    turned: Raw = {}
    for role, sources in value.items():
        for source in sources if isinstance(sources, list) else [sources]:
            if isinstance(source, str):
                say(turned, source, role, f"{key}.{role}", problems)
            else:
                problems.add(f"{key}.{role}", shown(source), "the name of a role", "put it in quotes")
    found["roles"] = turned


# where they are, and what is not taken


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


def _shards(found: Raw, key: str, problems: Problems) -> None:
    count, which = found.pop("shards"), found.pop("shards_idx", None) or 0
    if not count:
        return
    if not isinstance(count, int) or not isinstance(which, int) or not 0 <= which < count:
        problems.add(key, f"{shown(count)}, shards_idx {shown(which)}", "a slice", "write `split: train[:50%]`")
        return
    first, last = round(100 * which / count), round(100 * (which + 1) / count)
    problems.add(key, shown(count), "a slice", f"write `split: train[{first}%:{last}%]`")


def _thinking_key(found: Raw, key: str, problems: Problems) -> None:
    value = found.pop("template_thinking_key")
    if value not in (None, "reasoning_content", "thinking", "reasoning"):
        problems.add(key, shown(value), "reasoning_content", "name the dataset's field with `field_thinking`")


def _ds_type(found: Raw, key: str, problems: Problems) -> None:
    value = found.pop("ds_type")
    if value is not None and value not in _BUILDERS:
        problems.add(key, shown(value), ", ".join(_BUILDERS), "take `ds_type` out: the file's name tells")


def _conversation(found: Raw, key: str, problems: Problems) -> None:
    value = found.pop("conversation")
    if value is not None:
        problems.add(key, shown(value), "a template", f"write `chat_template: {value}`, if the library has it")


def _renamed(old: str, new: str, found: Raw, key: str, problems: Problems) -> None:
    value = found.pop(old)
    if value is not None:
        say(found, new, value, key, problems)


def _dropped(expected: str, fix: str) -> Callable[[Raw, str, Problems], None]:
    def meaning(found: Raw, key: str, problems: Problems) -> None:
        value = found.pop(key.rpartition(".")[2])
        if value:
            problems.add(key, shown(value), expected, fix)

    return meaning


_MEANINGS: Mapping[str, Callable[[Raw, str, Problems], None]] = {
    "type": _type,
    "chat_template_jinja": jinja_beside,
    # LLaMA-Factory's layouts are ours.
    "formatting": partial(_renamed, "formatting", "format"),
    "roles": _roles,
    "ds_type": _ds_type,
    "shards": _shards,
    "shards_idx": lambda found, key, problems: found.pop("shards_idx"),
    "template_thinking_key": _thinking_key,
    "conversation": _conversation,
    "train_on_eot": partial(_renamed, "train_on_eot", "train_on_eos"),
    "message_field_training_detail": _dropped("flags for whole messages", "write `message_field_training`"),
    "drop_system_message": _dropped("false", "take system messages out of the data"),
    "split_thinking": _dropped("false", "write `reasoning: field` for the whole run"),
    "input_transform": _dropped("none", "change the data first"),
    "input_format": _dropped("none", "name the layout of the rows with `format`"),
    "field_human": _dropped("names of our fields", "write `columns: {instruction: …}`"),
    "field_model": _dropped("names of our fields", "write `columns: {output: …}`"),
    "revision": _dropped("none", "download that revision, and name its folder under `path`"),
}
