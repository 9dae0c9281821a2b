"""The schema of a configuration file: typed, closed, and with the keys that users of other tools know.

In: a mapping whose keys have our names (`config_io` translates aliases). Out: a `Config`, or pydantic's list
of what does not fit, which `config_io` turns into one `ConfigError`.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, create_model, model_validator

from instruct_fmt.option_kinds import Choice, Count, Kind, Moment, Names, Share, Texts, Trained, Weights
from instruct_fmt.options import About, Options, about

__all__ = ["ALIASES", "DATASET_ALIASES", "Config", "DatasetConfig", "OutputConfig"]

# What other tools call it → what we call it.
ALIASES: dict[str, str] = {
    "base_model": "model",
    "model_name": "model",
    "model_name_or_path": "model",
    "tokenizer_config": "tokenizer",
    "tokenizer_name": "tokenizer",
    "tokenizer_name_or_path": "tokenizer",
    "chat_template": "template",
    "chat_template_kwargs": "template_kwargs",
    "sequence_len": "max_length",
    "cutoff_len": "max_length",
    "max_seq_length": "max_length",
    "max_seq_len": "max_length",
    "dataset": "datasets",
    "data": "datasets",
    "dataset_num_proc": "num_proc",
    "dataset_processes": "num_proc",
    "preprocessing_num_workers": "num_proc",
    "default_system": "system",
    "default_system_message": "system",
    "system_prompt": "system",
    "dataset_prepared_path": "output",
    "tokenized_path": "output",
    "shuffle_merged_datasets": "shuffle",
    "dataset_exact_deduplication": "deduplicate",
    "max_samples": "limit",
    "val_set_size": "validation",
    "val_size": "validation",
    "test_datasets": "validation_datasets",
    "stopping_strategy": "interleave",
}
DATASET_ALIASES: dict[str, str] = {
    "subset": "name",
    "file_name": "path",
    "chat_template": "template",
    "chat_template_kwargs": "template_kwargs",
    "default_system": "system",
    "default_system_message": "system",
    "system_prompt": "system",
}
_OWN_TEMPLATE = {"tokenizer", "tokenizer_default"}


def _template(value: Any) -> Any:
    return None if isinstance(value, str) and value in _OWN_TEMPLATE else value


def _format(value: Any) -> Any:
    # In other tools this says "conversations in a chat template", whatever their shape.
    return None if value == "chat_template" else value


def _moment(value: Any) -> Any:
    # YAML reads a day without a time as a date.
    day = isinstance(value, datetime.date) and not isinstance(value, datetime.datetime)
    return datetime.datetime.combine(value, datetime.time()) if day else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _per_turn(value: Any) -> Any:
    """Here the stop of each trained turn is trained, once; `loss_weights` says otherwise."""
    if value not in ("turn", None):
        raise ValueError(
            "`turn` (the stop of each trained turn is trained, once); for the last turn only, set `train_on: last`, "
            "for its stop only `loss_weights: {terminator: 0, last_terminator: 1}` for the whole run"
        )
    return "turn"


def _validation(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and (0 < value < 1 or (value >= 1 and isinstance(value, int)))):
        raise ValueError("a share above 0 and below 1, or a number of rows")
    return value


Template = Annotated[str | None, BeforeValidator(_template)]
Strings = Annotated[list[str], BeforeValidator(_as_list)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _key(doc: str, example: str | None = None, *, default: Any = None) -> Any:
    """A key with its meaning, and an example as YAML writes it."""
    examples = None if example is None else [yaml.safe_load(example)]
    return Field(default=default, description=doc, examples=examples)


def _keys(names: Iterable[str], *, left_open: bool) -> dict[str, Any]:
    """The keys for some of the options of `compile`, as pydantic makes fields of them.

    Args:
        names: the options.
        left_open: whether a key that is not given has no value; else it has the option's default.
    """
    defaults = {field.name: field for field in dataclasses.fields(Options)}
    keys: dict[str, Any] = {}
    for name in names:
        said = about()[name]
        given: Any = _BEFORE.get(name, _type_of(said.kind))
        default = defaults[name].default
        bare = left_open or default is dataclasses.MISSING or default is None
        info = Field(default=None if bare else default, description=said.doc, examples=_examples(said))
        keys[name] = (given | None if bare else given, info)
    return keys


def _examples(said: About) -> list[Any] | None:
    return [yaml.safe_load(said.example)] if said.example else None


def _type_of(kind: Kind) -> Any:
    """What a value is in YAML."""
    match kind:
        case Choice(meanings=meanings):
            return Literal[tuple(meanings)]
        case Names(values=values):
            return dict[str, Any] if values else dict[str, str]
        case Weights():
            return dict[str, float]
        case Texts():
            return Strings
        case Trained():
            return str | list[str]
        case Count():
            return PositiveInt
        case Share():
            return Annotated[float, Field(ge=0, le=1)]
        case Moment():
            return Annotated[datetime.datetime, BeforeValidator(_moment)]
        case _:
            return str


_BEFORE: dict[str, Any] = {"format": Annotated[str, BeforeValidator(_format)], "backend": str}
_OF_DATASET = [name for name, said in about().items() if said.of_dataset]
_OfDataset: type[_Closed] = create_model("_OfDataset", __base__=_Closed, **_keys(_OF_DATASET, left_open=True))


class _Training(_OfDataset):  # type: ignore[misc,valid-type]  # made of the options
    """What both the whole run and one dataset can say about templates and training."""

    template: Template = _key(
        "A template: a library name, a path, Jinja text or a format string; None for the tokenizer's own.", "alpaca"
    )
    train_on_inputs: bool | None = _key("axolotl's: true is `train_on: all`, false is `assistant`.")
    roles_to_train: Strings | None = _key("axolotl's: the roles for `train_on`.")
    train_on_eos: Annotated[str | None, BeforeValidator(_per_turn)] = _key("axolotl's: `turn`, which is what happens.")
    field_messages: str | None = _key("axolotl's: the column of messages, `messages` in `field_map`.")
    message_property_mappings: dict[str, str] | None = _key("axolotl's: fields of messages, as in `field_map`.")

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> _Training:
        ways = ("train_on", "train_on_inputs", "roles_to_train")
        given = [name for name in ways if getattr(self, name) is not None]
        if len(given) > 1 and not (given == ["train_on_inputs", "roles_to_train"] and not self.train_on_inputs):
            raise ValueError(f"one of {' and '.join(given)}, because they decide the same")
        return self

    def trained(self) -> str | list[str] | None:
        """The value for `train_on`; None where nothing was said."""
        if self.train_on_inputs:
            return "all"
        if self.train_on_inputs is False and self.roles_to_train is None:
            return "assistant"
        return self.train_on if self.roles_to_train is None else self.roles_to_train

    def fields(self) -> dict[str, str]:
        """The value for `field_map`: our names of fields → the dataset's."""
        found = dict(self.field_map or {})
        if self.field_messages is not None:
            found["messages"] = self.field_messages
        return {**found, **(self.message_property_mappings or {})}


class DatasetConfig(_Training):
    """One dataset; what `Config` has too, holds for this dataset only."""

    path: str | None = _key(
        "A file, a folder, `embedded`, `embedded/records`, or a name on the Hub.", "data/chat.jsonl"
    )
    name: str | None = _key("The configuration on the Hub; with `dataset_info`, the entry.")
    split: str = _key("A split, or a slice of one.", "train[:1000]", default="train")
    on_bad_row: Literal["error", "reject"] = _key(
        "What becomes of a row of a file that cannot be read: an error, or left out, listed and counted.",
        "reject",
        default="error",
    )
    rows: PositiveInt | None = _key("So many of its rows: the first ones, or with `shuffle` any.", "5000")
    fraction: Annotated[float, Field(gt=0, le=1)] | None = _key("The same as a share of its rows.", "0.25")
    epochs: Annotated[float, Field(gt=0)] = _key(
        "How often each of its rows is there; 1.5 is once, and half of them twice.", "2", default=1.0
    )
    weight: Annotated[float, Field(gt=0)] | None = _key(
        "Beside `interleave`: how many of its rows for how many of the others'.", "2"
    )
    dataset_info: str | None = _key(
        "A `dataset_info.json` as LLaMA-Factory writes it, whose entry `name` gives path, format and names."
    )
    tags: dict[str, str] | None = _key("Such a file's names of roles and fields.", "{user_tag: human}")

    @model_validator(mode="after")
    def _is_somewhere(self) -> DatasetConfig:
        if self.dataset_info is None and self.path is None:
            raise ValueError("`path`, or `dataset_info` and `name`")
        if self.dataset_info is not None and (self.name is None or self.path is not None):
            raise ValueError("`name` (the entry) and no `path` beside `dataset_info`")
        if self.rows is not None and self.fraction is not None:
            raise ValueError("`rows` or `fraction`, because they decide the same")
        return self


class OutputConfig(_Closed):
    """Where the result goes; a text is its `path`."""

    path: str | None = _key(
        "The folder, from the current one; None for a place in the cache of `datasets`.", "out/prepared"
    )
    format: Literal["arrow", "parquet"] = _key(
        "`arrow`, which `datasets.load_from_disk` opens, or `parquet`.", "parquet", default="arrow"
    )


_OfRun: type[_Training] = create_model(
    "_OfRun", __base__=_Training, **_keys((name for name in about() if name not in _OF_DATASET), left_open=False)
)


class Config(_OfRun):  # type: ignore[misc,valid-type]  # made of the options
    """A whole run: a tokenizer, one or more datasets, the options of `compile`, and where the result goes.

    Attributes:
        left_to_trainer: keys of the file that say something to the trainer alone; no key of a file itself.
    """

    model: str | None = _key("A model, whose tokenizer is taken.", "Qwen/Qwen3-8B")
    tokenizer: str | None = _key("A tokenizer: a name on the Hub, a folder, or `embedded`.", "embedded")
    datasets: list[DatasetConfig] = Field(
        min_length=1, description="One or more datasets; a text is its `path`.", examples=[["embedded"]]
    )
    output: OutputConfig = Field(
        default=OutputConfig(), description="Where the result goes.", examples=["out/prepared"]
    )
    num_proc: PositiveInt | None = _key("Worker processes, each for a batch at least.", "4")
    packing: bool | PositiveInt | None = _key(
        "Puts whole rows together into sequences of so many tokens; `true` is `max_length`.", "4096", default=False
    )
    validation: Annotated[int | float | None, BeforeValidator(_validation)] = _key(
        "Rows to hold out: a number of them, or a share below 1.", "0.05"
    )
    validation_datasets: list[DatasetConfig] = Field(
        default=[],
        description="Datasets to hold out as a whole, written as `datasets`.",
        examples=[["data/held_out.jsonl"]],
    )
    shuffle: bool = _key("Whether the rows are in a random order.", "true", default=False)
    seed: int = _key("Which order, and which rows are held out.", "7", default=42)
    interleave: Literal["first_exhausted", "all_exhausted"] | None = _key(
        "Mixes the datasets by their weights until the first of them is used up, or all, the others repeated.",
        "first_exhausted",
    )
    deduplicate: bool = _key("Whether of equal rows only the first stays.", "true", default=False)
    limit: PositiveInt | None = _key("So many rows of each dataset at most, for a trial.", "100")
    keep_columns: Strings = _key("Columns of the datasets that are carried along.", "[source]", default=[])
    special_tokens: dict[str, str] | None = _key(
        "Other special tokens for the tokenizer, all of them in its vocabulary.", '{eos_token: "<|im_end|>"}'
    )

    left_to_trainer: tuple[str, ...] = Field(default=(), exclude=True)

    @model_validator(mode="after")
    def _has_tokenizer(self) -> Config:
        if self.model is None and self.tokenizer is None:
            raise ValueError("`tokenizer` (a name, a folder or `embedded`), or `model`, whose own is taken")
        return self
