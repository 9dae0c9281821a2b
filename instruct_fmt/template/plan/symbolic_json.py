"""JSON of what a template builds around texts and objects of any row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from instruct_fmt.template.plan.json_form import JsonForm
from instruct_fmt.template.plan.recorder import refuse
from instruct_fmt.template.plan.symbolic import Symbolic, in_json
from instruct_fmt.template.plan.symbolic_object import SymbolicList, SymbolicObject, is_symbolic, json_of
from instruct_fmt.template.trace import traced as tr
from instruct_fmt.template.trace.helpers import tojson
from instruct_fmt.template.trace.owners import TracedMessage


def symbolic_json(value: Any, *args: Any, **kwargs: Any) -> str:
    """`tojson`: of the row's objects their own JSON, put together with what the template puts around them."""
    if not is_symbolic([value, args, kwargs]):
        return tr.coarse(tojson(value, *args, **kwargs), [value, args, kwargs])
    form = _form(*args, **kwargs)
    if form is None:
        refuse("JSON in a form of its own")
        return ""
    return tr.join("", list(_parts(value, form, 0)))


def _form(
    ensure_ascii: Any = False, indent: Any = None, separators: Any = None, sort_keys: Any = False
) -> JsonForm | None:
    """The form that a template asks for; None for one that is not modelled."""
    between = None if separators is None else tuple(map(str, separators))
    plain = isinstance(indent, int | None) and not isinstance(indent, bool) and (between is None or len(between) == 2)
    if not plain or is_symbolic([ensure_ascii, indent, separators, sort_keys]):
        return None
    return JsonForm(bool(ensure_ascii), indent, between, bool(sort_keys))  # type: ignore[arg-type]  # two of them


def _parts(value: Any, form: JsonForm, depth: int) -> Iterator[str]:
    """What `json.dumps` writes, the row's own texts as they are."""
    if isinstance(value, SymbolicObject | SymbolicList):
        yield json_of(value, replace(form, depth=depth))
    elif isinstance(value, Symbolic):
        yield from ('"', in_json(value, ensure_ascii=form.ensure_ascii), '"')
    elif isinstance(value, TracedMessage):
        refuse("JSON of a whole message")
    elif isinstance(value, dict):
        names = sorted(dict.keys(value)) if form.sort_keys else list(dict.keys(value))
        yield from _items("{}", [(name, dict.__getitem__(value, name)) for name in names], form, depth)
    elif isinstance(value, list | tuple):
        yield from _items("[]", [(None, item) for item in value], form, depth)
    else:
        yield tr.coarse(replace(form, depth=depth).dumps(value), value)


def _items(around: str, items: Sequence[tuple[Any, Any]], form: JsonForm, depth: int) -> Iterator[str]:
    between, behind_name = form.between()
    for number, (name, item) in enumerate(items):
        yield (between if number else around[0]) + form.line(depth + 1)
        if name is not None:
            if not isinstance(name, str):
                refuse("JSON with names that are no text")
            yield from (tr.coarse(form.dumps(str(name)), name), behind_name)
        yield from _parts(item, form, depth + 1)
    yield form.line(depth) + around[1] if items else around
