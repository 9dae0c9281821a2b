"""Rows that are a template's output already: textual `prompt`/`completion`, or one `text` column."""

from __future__ import annotations

from collections.abc import Sequence

from instruct_fmt.errors import RowError
from instruct_fmt.types import Marked, Span, Text


def mark_text(row: Text, stops: Sequence[str], *, append_eos: bool) -> Marked:
    """Everything behind the prompt is trained; EOS comes behind it where the text does not end in one of `stops`.

    Raises:
        RowError: the row has no text.
    """
    text, start = row.prompt + row.completion, len(row.prompt)
    if not row.completion:
        raise RowError("nothing-to-learn", row.path, "an empty text", "some text", "leave the row out")
    eos = append_eos and not (stops and text.rstrip().endswith(tuple(stops)))
    spans = [Span(0, start, "prompt", "prompt", False)] if start else []
    name = "completion" if start else "text"
    return Marked(
        text=text,
        trained=((start, len(text)),),
        spans=(*spans, Span(start, len(text), name, name, True)),
        from_row=((0, len(text), False),),
        removable=((0, start),) if start else (),
        cuts=(start,),
        bos=True,
        eos=eos,
        counts={"turns": 1, "trained_turns": 1, "eos_appended": int(eos)},
    )
