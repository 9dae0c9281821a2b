"""The content of a message in (text or parts), one string out; parts that are not text are refused.

Parts that are reasoning, calls or results of tools are read by `parts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instruct_fmt.adapt.roles import TABLE
from instruct_fmt.adapt.values import Path, as_list, at, bad_field, plain, text
from instruct_fmt.errors import RowError, shown

# Roles that carry results: their content may be structured data, which templates write as JSON.
RESULT_ROLES = frozenset(name for name, role in TABLE.items() if role == "tool")

TEXT_TYPES = frozenset({"text", "input_text", "output_text"})
_TEXT_KEYS = ("text", "value", "content")
_MEDIA = ("image", "audio", "video", "file", "document")


def content(value: object, path: Path, role: str) -> Any:
    """The content of a message: text as it is, text parts joined.

    Args:
        value: text, a part, or a list of parts such as ``{"type": "text", "text": "Hi"}``; not null.
        path: where it stands in the row.
        role: the role of the message; results of tools may also be structured data, which is kept.

    Raises:
        RowError: ``media`` for a part that is an image, audio, video or a file; ``bad-field`` for anything
            else that is not text; ``null-field`` for a text part without text; ``bad-text`` for a lone
            surrogate.

    >>> content([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], (None, "content"), "user")
    'ab'
    """
    if isinstance(value, str):
        return text(value, path)
    if role in RESULT_ROLES and not is_joined(value) and (isinstance(value, Mapping) or as_list(value) is not None):
        return plain(value, path)
    if isinstance(value, Mapping):
        return part_text(value, path)
    parts = as_list(value)
    if parts is None:
        raise bad_field(path, value, "text, null, or a list of text parts", "convert the content to text")
    return "".join([part_text(part, (path, i)) for i, part in enumerate(parts)])


def is_joined(value: object) -> bool:
    """Whether the content of a result is parts, which are joined, and no data, which is kept as it is."""
    return _is_part(value) if isinstance(value, Mapping) else all(map(_is_part, as_list(value) or ()))


def _is_part(part: object) -> bool:
    if not isinstance(part, Mapping):
        return False
    kind = part.get("type")
    return isinstance(kind, str) and (kind in TEXT_TYPES or _media(part, kind) is not None)


def part_text(part: object, path: Path) -> str:
    """The text of one part.

    Raises:
        RowError: as `content`.
    """
    if isinstance(part, str):
        return text(part, path)
    if not isinstance(part, Mapping):
        raise bad_field(path, part, "a part such as {'type': 'text', 'text': …}", "convert the part")
    kind = part.get("type")
    is_text = isinstance(kind, str) and kind in TEXT_TYPES
    media = None if is_text else _media(part, kind)
    if media:
        raise RowError(
            "media",
            at(path),
            f"a part of type {media!r}",
            "text parts only; images, audio, video and files are not supported",
            "leave rows with media out of the dataset, or take the part out",
        )
    key = text_key(part)
    if is_text or (kind is None and part.get(key) is not None):
        return text(part.get(key), (path, key))
    raise RowError(
        "bad-field",
        at(path),
        f"a part of type {kind!r}" if isinstance(kind, str) else f"dict {shown(dict(part))}",
        "a part of type 'text'",
        "take the part out, or write it as a part of type 'text'; schemas of tools belong into the column `tools`",
    )


def text_key(part: object) -> str:
    """The name under which a part has its text; nothing where it is the text."""
    if not isinstance(part, Mapping):
        return ""
    return next((key for key in _TEXT_KEYS if part.get(key) is not None), "text")


def _media(part: Mapping[str, Any], kind: object) -> str | None:
    """The kind of media that a part holds; its type tells, or a key such as ``image_url`` that is filled."""
    names = [kind] if isinstance(kind, str) else [str(key) for key, value in part.items() if value is not None]
    return next((name for name in names if any(word in name for word in _MEDIA)), None)
