"""Options that a template has no use for: refused before any row is read.

In: the settings and the template. Out: an error, or the policy under which conversations are marked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instruct_fmt.adapt.adapter import check_system
from instruct_fmt.adapt.asked import Asked
from instruct_fmt.adapt.roles import Roles, added_roles, allowed_names, trained_roles
from instruct_fmt.common.loss_weights import LossWeights
from instruct_fmt.common.names import RESERVED, hint
from instruct_fmt.errors import UsageError
from instruct_fmt.settings import Settings
from instruct_fmt.template.label.policy import Policy
from instruct_fmt.template.source.variables import SPECIAL_TOKENS
from instruct_fmt.types import TemplateSource


def check_options(settings: Settings, source: TemplateSource, asked: Asked) -> None:
    """Refuse options that would be ignored.

    Raises:
        UsageError: one of them is given.
    """
    loss = LossWeights.of(settings.loss_weights)
    if loss.parts and (source.kind == "record" or not source.text or settings.train_on == "all"):
        why = 'train_on="all"' if settings.train_on == "all" else "rows that are no conversations"
        raise UsageError(
            "loss_weights",
            f"{loss.parts[0][0]!r}, a part of a turn, under {why}",
            "patterns in slashes",
            'loss_weights={"/[0-9]+/": 2}, or a chat template, whose turns are trained one by one',
        )
    if source.kind == "record":
        _refuse_options_of_chats(settings)
        check_system(source, asked)
    elif source.text:
        _check_variables(settings.template_kwargs, source)


def policy_of(settings: Settings, source: TemplateSource, append_eos: bool) -> Policy:
    """What is trained of conversations.

    Raises:
        UsageError: a role that is none.
    """
    trained = settings.train_on
    if isinstance(trained, tuple):
        trained = trained_roles(trained, Roles(added_roles(settings.roles), source.roles))
    return Policy(
        train_on=trained,
        history=settings.history,
        prompt_mismatch=settings.prompt_mismatch,
        empty_reasoning=settings.empty_reasoning,
        completion_format=settings.completion_format,
        allow_dropped=allowed_names(settings.allow_dropped),
        append_eos=append_eos,
        loss_weights=LossWeights.of(settings.loss_weights),
    )


def _refuse_options_of_chats(settings: Settings) -> None:
    """Options that say something of turns; a record has none."""
    for name, default in (("completion_format", None), ("empty_reasoning", "error"), ("reasoning", "keep")):
        if getattr(settings, name) != default:
            raise UsageError(
                name,
                f"{getattr(settings, name)!r} with a record template",
                "a chat template, whose turns it is about",
                f"leave {name} out",
            )


def _check_variables(given: Mapping[str, Any], source: TemplateSource) -> None:
    """Template variables that a chat template does not read."""
    for name in given:
        if name in RESERVED:
            raise UsageError(
                "template_kwargs", f"{name!r}, which the formatter sets itself", "other variables", "leave it out"
            )
        if name not in source.variables and name not in SPECIAL_TOKENS:
            known = ", ".join(map(repr, sorted(source.variables))) or "none"
            raise UsageError(
                "template_kwargs",
                f"{name!r}{hint(name, source.variables)}, which the template {source.name!r} does not read",
                f"variables that it reads: {known}",
                "correct the name, or leave it out",
            )
