"""A chat template with everything around it: variables, clock, stops, and what short conversations show of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from instruct_fmt.template.label.chat_renderer import ChatRenderer
from instruct_fmt.template.label.compiled import compile_template, tried_out
from instruct_fmt.template.label.forms import ClosingForms
from instruct_fmt.template.label.learned import Learned, learn, message_form, reasoning_block
from instruct_fmt.types import Added


class ChatTemplate:
    """A chat template: what renders it, and what is known of it. `compiled` makes one from Jinja text.

    Args:
        renderer: renders conversations.
        learned: what is known of the template.
        closing: how it closes blocks of reasoning.
    """

    def __init__(self, renderer: ChatRenderer, learned: Learned, closing: ClosingForms) -> None:
        self.renderer, self.learned, self.closing = renderer, learned, closing
        self.scene, self.trace, self.proven = renderer.scene, renderer.trace, renderer.proven
        self.plain = renderer.plain
        self.stops, self.blocks, self.structural = learned.stops, learned.blocks, learned.structural
        self.completions = learned.completions

    @classmethod
    def compiled(
        cls,
        text: str,
        variables: Mapping[str, Any],
        now: datetime | None,
        declared_stops: Iterable[str],
        added: Sequence[Added],
    ) -> ChatTemplate:
        """Compile Jinja text and try it out.

        Args:
            text: Jinja text.
            variables: the special tokens and the formatter's own template variables.
            now: the clock that templates see.
            declared_stops: EOS and other stop strings known beforehand.
            added: the tokenizer's added tokens.

        Raises:
            TemplateError: the text does not compile, or reads a clock that is not pinned.
        """
        usual = ChatRenderer(compile_template(text), dict(variables), now)
        with tried_out():
            renderer = usual.with_form(message_form(usual))
            return cls(renderer, learn(renderer, added, declared_stops), ClosingForms(renderer))

    @cached_property
    def block(self) -> tuple[str, str, str] | None:
        """The block of reasoning in its prompts; see `reasoning_block`."""
        return reasoning_block(self.renderer, self.blocks)

    @property
    def text(self) -> str:
        """The template's text."""
        return self.renderer.template.text

    def rendered_by(self, renderer: ChatRenderer) -> ChatTemplate:
        """The same, as another renderer prints it; what is known of it stays."""
        return ChatTemplate(renderer, self.learned, self.closing)
