"""The stages of one formatter, everything heavy that they need made where it runs.

In: settings, a template, a tokenizer. Out: what reads, renders, labels, encodes and fits rows; `of` gives the same for
rows with certain columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from instruct_fmt.adapt.asked import Asked
from instruct_fmt.adapt.roles import added_roles, allowed_names
from instruct_fmt.common.loss_weights import LossWeights
from instruct_fmt.encode.engines.backend import Backend
from instruct_fmt.encode.engines.choose import choose, choose_continued
from instruct_fmt.encode.row_encoder import ControlPolicy, RowEncoder
from instruct_fmt.errors import UsageError
from instruct_fmt.fit.fitting import Fitting
from instruct_fmt.pipeline.checks import check_options, policy_of
from instruct_fmt.pipeline.dataset_stages import DatasetStages
from instruct_fmt.settings import Settings
from instruct_fmt.template.label.chat_template import ChatTemplate
from instruct_fmt.template.label.headers import role_headers
from instruct_fmt.template.label.marker import Marker
from instruct_fmt.template.label.record_template import RecordTemplate
from instruct_fmt.template.plan.planning import Planning
from instruct_fmt.template.source.load import answer_column
from instruct_fmt.tokenizer.loading import generation_stops
from instruct_fmt.tokenizer.vocabulary import Vocabulary
from instruct_fmt.types import Conversation, Example, Record, TemplateSource, Text


class Shared:
    """What does not depend on the options that may be changed to cure a row.

    Args:
        settings: the formatter's settings.
        source: its template.
        vocabulary: what was read off the tokenizer.

    Raises:
        TemplateError: the template does not compile or reads a clock that is not pinned.
    """

    def __init__(self, settings: Settings, source: TemplateSource, vocabulary: Vocabulary) -> None:
        self.source, self.vocabulary = source, vocabulary
        self.append_eos = settings.append_eos == "auto" and vocabulary.eos_id is not None
        stops = [*([vocabulary.eos] if vocabulary.eos else []), *generation_stops(vocabulary), *settings.stop]
        self.declared = list(dict.fromkeys(stops))
        self.variables = {**vocabulary.special, **settings.template_kwargs}
        self.template: ChatTemplate | None = None
        if source.kind == "chat" and source.text:
            self.template = ChatTemplate.compiled(
                source.text, self.variables, settings.now, self.declared, vocabulary.added
            )
        self._engine = settings.backend

    @cached_property
    def backend(self) -> Backend:
        """The tokenizer engine."""
        return choose(self._engine, self.vocabulary)

    @cached_property
    def continued(self) -> Backend:
        """The engine of a part that continues a row."""
        return choose_continued(self.backend, self.vocabulary)


class Stages:
    """The stages of one formatter. Threads may share them.

    Args:
        settings: the formatter's settings.
        shared: what does not depend on them.
        planning: when plans are made and compared.

    Raises:
        UsageError: an option that cannot work.

    Attributes:
        chat: marks conversations; None where there is no chat template.
        append_eos: whether EOS is appended behind a last turn without a stop.
        declared: EOS and the other stops that are known beforehand.
        variables: the special tokens and the formatter's own template variables.
        fitting: what becomes of long rows.
    """

    def __init__(self, settings: Settings, shared: Shared, planning: Planning) -> None:
        self.settings, self.shared, self.planning = settings, shared, planning
        self.source, self.vocabulary, self.append_eos = shared.source, shared.vocabulary, shared.append_eos
        self.declared, self.variables = shared.declared, shared.variables
        self.fitting = Fitting(settings.max_length, settings.overlength)
        self.chat: Marker | None = None
        if shared.template is not None:
            self.chat = Marker(shared.template, policy_of(settings, self.source, self.append_eos))
        self._records: dict[tuple[str, ...] | None, RecordTemplate] = {}
        self._encoders: dict[type[Example], RowEncoder] = {}
        self._datasets: dict[tuple[str, ...], DatasetStages] = {}
        check_options(settings, self.source, self.asked)  # what cannot work fails here

    def changed(self, settings: Settings) -> Stages:
        """The same with other settings."""
        return Stages(settings, self.shared, self.planning)

    def planned(self, planning: Planning) -> Stages:
        """The same without the plans made so far, and with others to come."""
        other = Stages(self.settings, self.shared, planning)
        other._records, other._encoders = self._records, self._encoders
        return other

    def of(self, columns: Sequence[str], sample: Mapping[str, Any] | None = None) -> DatasetStages:
        """The stages for rows with these columns, with everything that threads share; see `DatasetStages`."""
        key = tuple(columns)
        known = self._datasets.get(key)
        return known if known is not None else self._datasets.setdefault(key, DatasetStages(self, key, sample))

    @cached_property
    def asked(self) -> Asked:
        """What the user says about the rows."""
        settings = self.settings
        said = settings.format is not None or settings.control_tokens == "text" or self.source.own
        return Asked(
            columns=settings.columns,
            field_map=settings.field_map,
            format=settings.format,
            system=settings.system,
            allow_dropped=allowed_names(settings.allow_dropped),
            roles=added_roles(settings.roles),
            markers=() if said or self.chat is None else self._markers(self.chat),
        )

    def _markers(self, chat: Marker) -> tuple[str, ...]:
        """What only a template writes: its role headers, and the control tokens of a conversation."""
        added = {token.content for token in self.vocabulary.added if token.visible}
        return tuple(sorted(role_headers(chat.template) | added.intersection(self._structural(Conversation))))

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        if self.chat is not None:
            return list(self.chat.template.stops.stops)
        return list(self.record_template(None).stops.stops) if self.source.kind == "record" else self.declared

    @property
    def marker(self) -> Marker:
        """What marks conversations.

        Raises:
            UsageError: there is no chat template.
        """
        if self.chat is None:  # a record template makes no conversations
            raise UsageError(
                "the tokenizer has no chat template, and none was given; found conversations; expected a template; "
                'fix: pass template="chatml", another library name, Jinja text or a path'
            )
        return self.chat

    def record_template(self, columns: Sequence[str] | None) -> RecordTemplate:
        """The record template, with its trained columns found among the dataset's columns, where those are known."""
        key = None if columns is None else tuple(columns)
        if key not in self._records:
            settings, source = self.settings, self.source
            answers = answer_column(source, settings.columns, columns, settings.train_on)
            self._records[key] = RecordTemplate.compiled(
                source.text,
                [name for name in source.columns if name not in self.variables],
                answers,
                self.variables,
                settings.now,
                self.declared,
                self.vocabulary.added,
                whole=settings.train_on == "all",
            )
        return self._records[key]

    def encoder(self, kind: type[Example]) -> RowEncoder:
        """The encoder for this kind of example."""
        if kind not in self._encoders:
            self._encoders[kind] = RowEncoder(
                self.vocabulary,
                self._structural(kind),
                self.control(kind),
                self.shared.backend,
                self.shared.continued,
                self.settings.boundary,
                self.loss,
            )
        return self._encoders[kind]

    @cached_property
    def loss(self) -> LossWeights:
        """What counts more or less than once in the loss."""
        return LossWeights.of(self.settings.loss_weights)

    @property
    def weighted(self) -> bool:
        """Whether rows have a column of weights."""
        return self.loss.is_column

    def control(self, kind: type[Example]) -> ControlPolicy:
        """What happens to control tokens in a row's text."""
        return self.settings.control_tokens or ("error" if kind is Text else "text")

    def _structural(self, kind: type[Example]) -> list[str]:
        special = self.vocabulary.special
        found = {token for token in special.values() if isinstance(token, str)} | set(self.stops)
        if kind is Conversation:
            found |= self.marker.template.structural
        elif kind is Record:
            found |= self.record_template(None).structural
        return sorted(found)
