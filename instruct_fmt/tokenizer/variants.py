"""Engines that differ from another one in their added tokens or in what they put in front of a text.

In: an engine. Out: a new one over the same model: nothing of its vocabulary is copied, so it is made in milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer

from instruct_fmt.common.foreign_errors import ForeignError, foreign_errors
from instruct_fmt.errors import TokenizerError


def without_dummy_prefix(engine: Tokenizer) -> Tokenizer:
    """The engine for a text that continues another one: no dummy prefix in the middle; itself where it has none.

    Raises:
        TokenizerError: it cannot be made.
    """
    steps = _steps(engine)
    changed = _without_prefix(steps)
    if changed == steps:
        return engine
    found = _made(engine, changed, {})
    return found if _contents(found) == _contents(engine) else _read(_without_prefix(json.loads(engine.to_str())))


def renamed(engine: Tokenizer, names: Mapping[str, str], *, continues: bool) -> Tokenizer:
    """The engine with added tokens of other contents: old → new. Their ids may change; it puts nothing around a text.

    Args:
        engine: any.
        names: the contents.
        continues: whether it is for a text that continues another one.

    Raises:
        TokenizerError: it cannot be made.
    """
    steps = _steps(engine)
    return _made(engine, _without_prefix(steps) if continues else steps, names)


def _made(engine: Tokenizer, steps: Mapping[str, Any], names: Mapping[str, str]) -> Tokenizer:
    shell = {"type": "BPE", "vocab": {}, "merges": []}
    nothing: dict[str, Any] = {"truncation": None, "padding": None, "added_tokens": [], "post_processor": None}
    found = _read({"version": "1.0", **nothing, **steps, "decoder": None, "model": shell})
    found.model = engine.model
    if engine.decoder is not None:
        found.decoder = engine.decoder
    tokens = [token for _, token in sorted(engine.get_added_tokens_decoder().items())]
    found.add_tokens([_renamed(token, names[token.content]) if token.content in names else token for token in tokens])
    return found


def _renamed(token: AddedToken, content: str) -> AddedToken:
    return AddedToken(
        content,
        single_word=False,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=token.special,
    )


def _steps(engine: Tokenizer) -> dict[str, Any]:
    """What an engine does before its model, in JSON form."""
    return {"normalizer": state_of(engine.normalizer), "pre_tokenizer": state_of(engine.pre_tokenizer)}


def state_of(step: Any) -> Any:
    """A step of an engine in its JSON form."""
    return None if step is None else json.loads(step.__getstate__())


def _contents(engine: Tokenizer) -> dict[int, str]:
    return {id: token.content for id, token in engine.get_added_tokens_decoder().items()}


def _read(spec: dict[str, Any]) -> Tokenizer:
    try:
        with foreign_errors():
            return Tokenizer.from_str(json.dumps(spec, ensure_ascii=False))
    except ForeignError as error:
        raise TokenizerError(
            f"tokenizer.json: {error}; expected a definition that can be read again; fix: correct its vocabulary"
        ) from error


def _without_prefix(part: Any) -> Any:
    """The JSON form of steps, less every one that puts a dummy space in front of a text."""
    if isinstance(part, list):
        return [_without_prefix(item) for item in part if not _is_prepend(item)]
    if not isinstance(part, dict):
        return part
    changed = {
        key: None if _is_prepend(value) else (value if key == "model" else _without_prefix(value))
        for key, value in part.items()
    }
    if changed.get("type") == "ByteLevel" and "add_prefix_space" in changed:
        changed["add_prefix_space"] = False
    if changed.get("type") == "Metaspace" and "prepend_scheme" in changed:
        changed["prepend_scheme"] = "never"
    return changed


def _is_prepend(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "Prepend"
