"""`compile` makes a `Formatter`: rows in, `input_ids` and `labels` out."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from instruct_fmt.errors import UsageError
from instruct_fmt.settings import Settings
from instruct_fmt.template.plan.planning import Planning
from instruct_fmt.types import TemplateSource
from instruct_fmt.version import __version__

if TYPE_CHECKING:
    import datasets
    import numpy.typing as npt
    import pyarrow as pa

    from instruct_fmt.doctor.findings import Findings
    from instruct_fmt.look.preview import Preview
    from instruct_fmt.pipeline.pipeline import Pipeline
    from instruct_fmt.pipeline.stages import Stages
    from instruct_fmt.run.mapping import Tally
    from instruct_fmt.run.prepare import Prepared
    from instruct_fmt.tokenizer.loading import TokenizerReference
    from instruct_fmt.tokenizer.vocabulary import Vocabulary
    from instruct_fmt.types import EncodedBatch, Marked, Prompt, Rendered, Stop

Row = Mapping[str, Any]
# What another formatter of the same template and tokenizer need not load again.
_LOADED = ("vocabulary", "source", "tokenizer")
# Rows that are a template's output already need none; conversations raise.
NO_TEMPLATE = TemplateSource("", "chat", "none")


def compile(  # noqa: PLR0913 - every option has a name that users know
    template: str | os.PathLike[str] | None = None,
    tokenizer: Any = None,
    *,
    columns: Mapping[str, str] | None = None,
    train_on: Literal["assistant", "last", "all"] | Sequence[str] = "assistant",
    history: Literal["auto", "as_rendered", "last", "expand", "error"] = "auto",
    max_length: int | None = None,
    overlength: Literal["drop", "drop_turns", "truncate_prompt", "truncate", "error"] = "drop",
    boundary: Literal["auto", "joint", "split"] = "auto",
    control_tokens: Literal["text", "error", "allow"] | None = None,
    append_eos: Literal["auto", "never"] | bool = "auto",
    stop: str | Sequence[str] | None = None,
    prompt_mismatch: Literal["as_served", "error", "as_rendered"] = "as_served",
    reasoning: Literal["keep", "strip", "field"] = "keep",
    empty_reasoning: Literal["error", "close"] = "error",
    completion_format: str | None = None,
    loss_weights: Mapping[str, float] | None = None,
    max_rejected: float = 0.01,
    template_kwargs: Mapping[str, Any] | None = None,
    now: datetime | None = None,
    backend: str = "auto",
    format: str | None = None,
    system: str | None = None,
    allow_dropped: Sequence[str] = (),
    field_map: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
) -> Formatter:
    """Compile a template and a tokenizer into a formatter for `datasets.map`.

    Args:
        template: a library name (``alpaca``, ``chatml``, …), Jinja text, a format string such as
            ``"USER: {instruction}\\nASSISTANT: {output}"``, a path, or None for the tokenizer's own chat template.
        tokenizer: a fast transformers tokenizer, or a name or path for `AutoTokenizer`; ``embedded`` is the small one
            in this package.
        columns: the template's name of a column → the dataset's. Such as ``{output: response}``.
        train_on: what is trained: one of these words, or a list of roles (chat) or columns (record). ``assistant``:
            every turn of the model's, or the answer column; ``last``: the last one; ``all``: the whole text.
        history: what becomes of turns that are not the last, where the template may write them differently. ``auto``:
            trains those that read the same as when they are generated; ``as_rendered``: trains all; ``last``: is
            ``auto`` for one turn; ``expand``: makes one row of each turn; ``error``: rejects such rows.
        max_length: the most tokens of a row; None for no limit. Such as ``4096``.
        overlength: what becomes of a row over ``max_length``. ``drop``: counts and drops; ``drop_turns``: leaves out
            the oldest questions with their answers, and shortens the prompt where that is not enough;
            ``truncate_prompt``: shortens what others say before the answer, the oldest first; ``truncate``: cuts the
            end off, terminator included; ``error``: stops.
        boundary: where the ids of a turn begin. Records are always split, unless ``joint``. ``auto``: behind exactly
            the ids of its prompt, so that a completion is encoded apart where a token would cross the seam; ``joint``:
            encodes a row in one piece, as ``apply_chat_template`` does, whatever crosses; ``split``: always encodes
            apart.
        control_tokens: what happens to control tokens in a row's text; None is ``text``. For rows that are a template's
            output already (``text``, textual ``prompt``/``completion``) there is no default: they are rejected until
            you choose. ``text``: encodes them as ordinary text; ``error``: rejects the row; ``allow``: encodes them as
            tokens.
        append_eos: whether EOS is appended; True and False are the same. ``auto``: appends EOS behind a last turn that
            does not end in a stop; ``never``: does not.
        stop: further stop strings of the model. Such as ``["</answer>"]``.
        prompt_mismatch: what happens to a turn that the template asks for otherwise than it writes it. ``as_served``:
            makes the row of the prompt and the completion; ``error``: rejects it; ``as_rendered``: trains what is
            there.
        reasoning: what becomes of the model's reasoning. ``keep``: leaves it as the row has it, inline or as a field;
            ``strip``: leaves it out; ``field``: makes a field ``reasoning_content`` of a block with which a content
            begins.
        empty_reasoning: what happens to a turn without reasoning whose prompt opens a block of it that the template
            does not close. ``error``: rejects the row; ``close``: lets the model close the block at once.
        completion_format: what the model writes where the template cannot tell; less what the prompt supplies; the stop
            is added. Such as ``"<think>\\n{reasoning}\\n</think>\\n\\n{content}"``.
        loss_weights: what parts of the model's turns count in the loss, and regular expressions in slashes; others
            count 1. 0 and 1 are labels; other numbers make a column ``loss_weights`` (docs/weights.md). Such as
            ``{reasoning: 0, "/[0-9]+/": 2}``.
        max_rejected: the share of rows that may be rejected before ``prepare`` fails; over-length rows do not count.
            Such as ``0.05``.
        template_kwargs: template variables. Such as ``{enable_thinking: false}``.
        now: the clock that templates see. Such as ``2025-01-31``.
        backend: the tokenizer engine. ``auto``: takes the fastest that is installed and proves equal to ``tokenizers``;
            ``tokenizers``: Hugging Face's; ``gigatoken``: of the extra ``fast``; ``fastokens``: of the extra ``fast``.
        format: the input format's name; None recognises it by the columns. Textual ``prompt`` and ``completion`` are a
            user message and an assistant message with ``instruction``, or where a chat template was given; a template's
            output that is ready with ``prompt_completion``, or where there is no template; and an error where the
            template is the tokenizer's own and nothing was said. Such as ``instruction``.
        system: a system prompt for conversations that have none, and for records under a template that names one. Such
            as ``Be brief.``.
        allow_dropped: fields of a trained message, such as ``reasoning_content``, roles, such as ``system``, and
            columns, such as ``label``, that may be left out. Such as ``[reasoning_content]``.
        field_map: names of the dataset's fields: ours → the dataset's. Such as ``{messages: dialog, role: speaker}``.
        roles: more names of roles; the same word twice is a role that the template prints as it is. The usual names of
            each role are known. Such as ``{critic: user}``.

    Raises:
        UsageError: an option that cannot work.
        TemplateError: a template that cannot be used.
        TokenizerError: a tokenizer that cannot be used.

    >>> import instruct_fmt as ifmt
    >>> fmt = ifmt.compile("Q: {question}\\nA: {answer}", "embedded")
    >>> row = fmt.encode({"question": "One and one?", "answer": "Two."})
    >>> fmt.tokenizer.decode([id for id in row["labels"] if id != -100])
    ' Two.<|im_end|>'
    """
    options = {name: value for name, value in locals().items() if name not in ("template", "tokenizer")}
    if tokenizer is None:
        raise UsageError("tokenizer", "None", "a tokenizer, its name or its path", 'tokenizer="embedded" to try')
    from instruct_fmt.template.source.load import load
    from instruct_fmt.tokenizer.loading import load_vocabulary
    from instruct_fmt.tokenizer.vocabulary import Vocabulary

    named = isinstance(tokenizer, str | os.PathLike)
    vocabulary = load_vocabulary(tokenizer) if named else Vocabulary.of(tokenizer)
    source = (
        load(template, vocabulary.chat_template) if template is not None or vocabulary.chat_template else NO_TEMPLATE
    )
    texts: dict[str, Any] = {"template": source.text, "template_name": source.name, "own_template": source.own}
    chosen = Settings(**texts, **options)
    formatter = Formatter(chosen, str(tokenizer) if named else None)
    formatter.__dict__.update(vocabulary=vocabulary, source=source)
    if not named:
        formatter.__dict__["tokenizer"] = tokenizer
    formatter.pipeline  # noqa: B018  # what cannot work fails here, not in the first batch
    return formatter


class Formatter:
    """A compiled template: call it on rows, or hand it to `datasets.map`. Made by `compile`.

    It is its settings: it pickles to them and to a reference to its tokenizer, and everything else is made where it
    runs. Its state never changes, so `datasets` caches what it makes.

    Attributes:
        settings: what `compile` was asked for.
    """

    def __init__(
        self, settings: Settings, tokenizer: str | TokenizerReference | None, planning: Planning | None = None
    ) -> None:
        self.settings = settings
        self._tokenizer = tokenizer
        self._planning = Planning() if planning is None else planning

    def __reduce__(self) -> Any:
        return Formatter, (self.settings, self.tokenizer_reference)

    @cached_property
    def tokenizer_reference(self) -> TokenizerReference:
        """How the tokenizer is found again in another process."""
        from instruct_fmt.tokenizer.loading import TokenizerReference, reference

        if isinstance(self._tokenizer, TokenizerReference):
            return self._tokenizer
        if isinstance(self._tokenizer, str):
            return TokenizerReference(self._tokenizer, self.vocabulary.digest)
        return reference(self.vocabulary)

    def __repr__(self) -> str:
        return f"Formatter(template={self.settings.template_name!r}, fingerprint={self.fingerprint[:12]!r})"

    @cached_property
    def tokenizer(self) -> Any:
        """The transformers tokenizer; what is done to it does not change the formatter."""
        return self.tokenizer_reference.load()

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What was read off the tokenizer."""
        return self.tokenizer_reference.vocabulary()

    @cached_property
    def source(self) -> TemplateSource:
        """The template."""
        from dataclasses import replace

        from instruct_fmt.template.source.load import load

        if not self.settings.template:
            return NO_TEMPLATE
        found = load(self.settings.template, None)
        return replace(found, name=self.settings.template_name, own=self.settings.own_template)

    @cached_property
    def pipeline(self) -> Pipeline:
        """The stages, with everything heavy that they need."""
        from instruct_fmt.pipeline.pipeline import Pipeline

        return Pipeline.compiled(self.settings, self.source, self.vocabulary, self._planning)

    @property
    def stages(self) -> Stages:
        """What reads, renders, labels and encodes its rows: for whoever looks at formatters."""
        return self.pipeline.stages

    def planned(self, planning: Planning) -> Formatter:
        """The same formatter without the plans that it has made, and with others to come; the output is the same.

        >>> from instruct_fmt.template.plan.planning import PLANS_OFF
        >>> fmt = compile("alpaca", "embedded")
        >>> row = {"instruction": "Hi", "output": "Ho"}
        >>> fmt.planned(PLANS_OFF).encode(row) == fmt.encode(row)
        True
        """
        other = Formatter(self.settings, self._tokenizer, planning)
        made: dict[str, Any] = {name: value for name, value in self.__dict__.items() if name in _LOADED}
        other.__dict__.update(made, pipeline=self.pipeline.planned(planning))
        return other

    def facts(self) -> dict[str, str]:
        """Hashes of what the output depends on, and the version: the same in every process."""
        return {
            "template": hashlib.sha256(self.settings.template.encode()).hexdigest(),
            "tokenizer": self.vocabulary.digest,
            "options": self.settings.digest(),
            "version": __version__,
        }

    @property
    def fingerprint(self) -> str:
        """One hash of `facts`."""
        return hashlib.sha256("\n".join(self.facts().values()).encode()).hexdigest()

    @cached_property
    def tally(self) -> Tally:
        """The rows that were mapped in this process so far; it is no part of the formatter's state."""
        from instruct_fmt.run.mapping import Tally

        return Tally()

    @property
    def stop(self) -> Stop:
        """What ends a generated turn: the strings, and the ids of those that are one token."""
        from instruct_fmt.types import Stop

        strings = self.stages.stops
        encoded = [self.vocabulary.backend.encode(text, add_special_tokens=False).ids for text in strings]
        return Stop(tuple(strings), tuple(ids[0] for ids in encoded if len(ids) == 1))

    def encode_batch(self, table: pa.Table, first_row: int = 0) -> EncodedBatch:
        """Encode a table; rows that cannot be encoded are listed, not raised.

        Args:
            table: rows in any known format.
            first_row: the dataset's index of the first row.

        Raises:
            UsageError: the columns fit no format, or it is no table.
        """
        import pyarrow as pa

        if not isinstance(table, pa.Table):
            raise UsageError("", f"a {type(table).__name__}", "a pyarrow.Table", "pa.Table.from_pylist([row, …])")
        return self.pipeline.run_table(table, first_row)

    def encode_rows(self, rows: Iterable[Row], first_row: int = 0) -> EncodedBatch:
        """`encode_batch` for Python rows.

        Args:
            rows: mappings; what a row lacks of the others' columns is null there.
            first_row: the dataset's index of the first row.

        Raises:
            UsageError: the columns fit no format.
        """
        given = list(rows)
        rows_given = [row for row in given if isinstance(row, Mapping)]  # anything else is rejected by name
        columns = list(dict.fromkeys(name for row in rows_given for name in row))
        if any(len(row) != len(columns) for row in rows_given):
            given = [{name: row.get(name) for name in columns} if isinstance(row, Mapping) else row for row in given]
        return self.pipeline.run(given, columns, first_row)

    def encode_table(self, table: pa.Table) -> pa.Table:
        """Encode a table: `input_ids` and `labels`, int32, without the rows that were rejected.

        What is rejected is logged; `encode_batch` and `prepare` return it.
        """
        from instruct_fmt.run.mapping import logged

        return logged(self, self.encode_batch(table)).table

    def encode(self, row: Row) -> dict[str, list[Any]]:
        """Encode one row: `input_ids` and `labels`, and `loss_weights` where there are any.

        Raises:
            RowError: the row cannot be encoded.
            UsageError: the row makes several, with `history="expand"`.
        """
        return {name: values.tolist() for name, values in self.encode_arrays(row).items()}

    def encode_arrays(self, row: Row) -> dict[str, npt.NDArray[Any]]:
        """`encode`, as arrays: int32, and float32 for `loss_weights`."""
        import numpy as np

        from instruct_fmt.emit import WEIGHTS, labels_of
        from instruct_fmt.errors import Rejection, RowError

        try:
            found = self.pipeline.run_one(row)
        except RowError as error:
            raise Rejection.from_error(error, 0).to_error() from None
        if len(found) != 1:
            raise UsageError(
                f'history="expand" makes {len(found)} rows of this one; expected one; fix: '
                "dataset.map(fmt, batched=True), fmt.prepare(dataset), or fmt.encode_table(pa.Table.from_pylist([row]))"
            )
        row_ids, trained, weights = found[0].ids, found[0].trained, found[0].weights
        arrays: dict[str, npt.NDArray[Any]] = {"input_ids": row_ids, "labels": labels_of(row_ids, trained)}
        if self.stages.weighted and weights is not None:
            arrays[WEIGHTS] = np.where(trained, weights, np.float32(0))
        return arrays

    def render(self, row: Row) -> Rendered:
        """Render one row: its text, the trained ranges in characters, and who wrote what.

        Raises:
            RowError: the row cannot be rendered, or its mask cannot be proven.
        """
        from instruct_fmt.types import Rendered

        marked = self._marked(row)
        return Rendered(marked.text, marked.trained, marked.spans)

    def prompt(self, row: Row, turn: int = -1) -> Prompt:
        """What inference must send to get a trained turn of the row: it never depends on the answer.

        Args:
            row: a row of the dataset.
            turn: which of its trained turns.

        Raises:
            RowError: there is no such turn.
        """
        from instruct_fmt.adapt.rows.plain import plain_row
        from instruct_fmt.errors import RowError
        from instruct_fmt.types import Prompt

        row = plain_row(row)
        stages = self.stages.of(list(row), row)
        example = stages.read(row)
        marked = stages.prompt(example, turn)
        encoded = stages.encoder(type(example)).encode([marked])[0]
        if isinstance(encoded, RowError):
            raise encoded
        return Prompt(marked.text, encoded.ids.tolist())

    def _marked(self, row: Row) -> Marked:
        from instruct_fmt.adapt.rows.plain import plain_row

        row = plain_row(row)
        stages = self.stages.of(list(row), row)
        return stages.counted(stages.mark(stages.read(row))[-1])

    def __call__(self, rows: Any) -> Any:
        """The callable for `datasets.map`: one row, a batch of rows, or an Arrow table.

        Raises:
            RowError: a single row cannot be encoded, and this form of the call cannot drop it.
            TooManyRejected: more rows were rejected than `max_rejected` allows.
        """
        from instruct_fmt.run.mapping import mapped

        return mapped(self, rows, sys.modules.get("datasets.formatting.formatting"))

    def prepare(self, dataset: datasets.Dataset, num_proc: int | None = None, **options: Any) -> Prepared:
        """Encode a dataset the fastest way, with progress, a report and the rejected rows.

        See `instruct_fmt.run.prepare.prepare` for the options.
        """
        from instruct_fmt.run.prepare import prepare

        return prepare(self, dataset, num_proc=num_proc, **options)

    def prepare_pairs(
        self, dataset: datasets.Dataset, kind: Literal["dpo", "kto", "reward", "prompt"] = "dpo"
    ) -> Prepared:
        """Encode preference data for DPO and its kin, KTO, reward models, or methods that sample their answers.

        See `instruct_fmt.run.preference.prepare_pairs`.
        """
        from instruct_fmt.run.preference import prepare_pairs

        return prepare_pairs(self, dataset, kind)

    def check(self, dataset: Any = None, rows: int = 200) -> Findings:
        """The doctor: what to know about this template, this tokenizer and a sample of the data before a run.

        See `instruct_fmt.doctor.check.check`.
        """
        from instruct_fmt.doctor.check import check

        return check(self, dataset, rows)

    def preview(self, row: Row) -> Preview:
        """The row's tokens as coloured text: trained green, masked red."""
        from instruct_fmt.look.preview import preview

        return preview(self, row)

    def sft_kwargs(self, **options: Any) -> dict[str, Any]:
        """What `trl.SFTConfig` must be told so that prepared rows stay as they are."""
        from instruct_fmt.train.trainers import sft_kwargs

        return sft_kwargs(self, **options)
