"""Text that stands for a field of any row, so that one render of a template holds for many rows.

A `Symbolic` string prints as *placeholders*, one for each expression over the row's fields, and literals, and so it
goes through a template like any traced text. What the template asks of it is answered from one row's actual value and
kept as *guards*: for another row that gives the same answers, the same text with its own values in place of the
placeholders is what the template prints. Whatever is not modelled is *refused*: the render is then good for nothing.

Concolic execution; see P. Godefroid, N. Klarlund, K. Sen, "DART: directed automated random testing" (2005).
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise, zip_longest
from typing import Any, SupportsIndex

from instruct_fmt.common.reasoning import parted
from instruct_fmt.template.plan.lengths import Length, Letter, length
from instruct_fmt.template.plan.recorder import PLACEHOLDER, SAME, Expression, Guard, recorder_now, refuse
from instruct_fmt.template.plan.steps import ANSWER, BLANKS, THOUGHTS, Edge, answer
from instruct_fmt.template.trace import traced as tr
from instruct_fmt.template.trace.origins import Field, Run, Runs
from instruct_fmt.template.trace.traced import Traced

# What JSON writes otherwise; as Python and Arrow read it alike.
_ESCAPED = r'["\\\x00-\x1f]'
# A text that a template cuts into more pieces is not looked at piece by piece.
MOST_PIECES = 4
_SET_APART = re.compile(r"[<>\[\]|｜]")  # what sets markers off from words


class Symbolic(Traced):
    """A traced string of placeholders and literals, with a placeholder at least.

    A method gives what the same method of each row's text gives, in the same form: literals are looked at as they are,
    a field by a question, and where two of them meet it is made sure that nothing looked for lies across their edge.
    """

    __slots__ = ()

    @property
    def _node(self) -> Expression | None:
        """The expression that it is; None where it is composed of several, or of one and literals."""
        text = plain_text(self)
        return recorder_now.get().expression(text) if PLACEHOLDER.fullmatch(text) else None

    @property
    def _whole(self) -> Symbolic | None:
        """It as a single expression, where its pieces are those of one: a content that begins with reasoning."""
        recorder = recorder_now.get()
        node = recorder.wholes.get(plain_text(self))
        return None if node is None else of_expression(node, self._actual)

    @property
    def _actual(self) -> str:
        """It in the row that answers questions."""
        return recorder_now.get().actual(plain_text(self))

    def _with(self, runs: Runs) -> Traced:
        return _make(plain_text(self), runs)

    def _melted(self) -> Runs:
        refuse("a text made of it that keeps no positions")
        return self._runs

    def _pieces(self) -> list[str]:
        """Its literals, and a symbol for each of its placeholders."""
        edges = [0]
        for match in PLACEHOLDER.finditer(plain_text(self)):
            edges += [match.start(), match.end()]
        edges.append(str.__len__(self))
        places = [(start, end) for start, end in pairwise(edges) if start < end]
        return list(map(_again, tr.cuts(self, places)))

    def _symbols(self) -> list[Symbolic]:
        return [piece for piece in self._pieces() if isinstance(piece, Symbolic)]

    # what it is asked

    def _asks(self, question: str, value: Any) -> bool:
        """The answer of a single expression, from now on a guard."""
        node = self._node
        if node is None:
            refuse(f"{question} of composed text")
            return answer(question, self._actual, value)
        found = answer(question, self._actual, value)
        recorder_now.get().guards[Guard(question, node, value, found)] = None
        return found

    def __hash__(self) -> int:
        refuse("hash")
        return str.__hash__(self)

    def __bool__(self) -> bool:
        pieces = self._pieces()
        if any(not isinstance(piece, Symbolic) for piece in pieces):
            return True  # a literal makes it so for every row
        return any(symbol._asks("filled", "") for symbol in self._symbols())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return False
        if isinstance(other, Symbolic):
            return plain_text(self) == plain_text(other) or self._is_same(other)
        wanted, pieces = plain_text(other), self._pieces()
        if len(pieces) == 1:
            return self._asks("equals", wanted)
        if any(plain_text(piece) not in wanted for piece in pieces if not isinstance(piece, Symbolic)):
            return False
        if self._whole is not None:
            return self._whole == other
        refuse("equals of composed text")
        return self._actual == wanted

    def _is_same(self, other: Symbolic) -> bool:
        """Whether two texts of the row say the same, which becomes a guard."""
        mine, theirs = ((text._whole or text)._node for text in (self, other))
        found = self._actual == other._actual
        if mine is None or theirs is None:
            refuse("two texts of the row compared, one of them composed")
        else:
            recorder_now.get().guards[Guard(SAME, mine, theirs, found)] = None
        return found

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __contains__(self, other: object) -> bool:
        if not isinstance(other, str) or isinstance(other, Symbolic):
            refuse("whether a text of the row is in another")
            return actual_of(other) in self._actual
        wanted, pieces, symbols = plain_text(other), self._pieces(), self._symbols()
        if any(wanted in plain_text(piece) for piece in pieces if not isinstance(piece, Symbolic)):
            return True
        for symbol in symbols:
            if wanted in symbol._actual:
                return symbol._asks("contains", wanted)
        for symbol in symbols:
            symbol._asks("contains", wanted)
        return _meets(pieces, wanted)

    def startswith(self, prefix: Any, *span: Any) -> bool:
        return self._at_an_end("starts", prefix, span)

    def endswith(self, suffix: Any, *span: Any) -> bool:
        return self._at_an_end("ends", suffix, span)

    def _at_an_end(self, question: str, wanted: Any, span: Sequence[Any]) -> bool:
        if isinstance(wanted, tuple) and not span:
            return any(self._at_an_end(question, one, span) for one in wanted)
        if span or not isinstance(wanted, str) or isinstance(wanted, Symbolic):
            refuse(f"{question} of a part of a text, or with what is no constant")
            return False
        rest, pieces, left = plain_text(wanted), self._pieces(), question == "starts"
        for piece in pieces if left else pieces[::-1]:
            if not isinstance(piece, Symbolic):
                text = plain_text(piece)
                if answer(question, text, rest):
                    return True
                if not answer(question, rest, text):
                    return False
                rest = rest[len(text) :] if left else rest[: -len(text)]
            elif len(pieces) == 1 or not rest:
                return piece._asks(question, rest)
            elif piece._asks("filled", ""):
                if not piece._asks(question, rest[0] if left else rest[-1]):
                    return False
                if not piece._asks(question, rest):
                    if self._whole is not None:
                        return self._whole._asks(question, plain_text(wanted))
                    refuse(f"{question} across two fields")
                return answer(question, self._actual, plain_text(wanted))
        return not rest

    # what is made of it

    def _stepped(self, name: str, *args: Any) -> str:
        """A single expression, a step further; that something is left of it, or nothing, becomes a guard."""
        node = self._node
        assert node is not None
        found = _of(node.then(name, *args), self._runs[0])
        return found if found._asks("filled", "") else ""

    def __add__(self, other: str) -> str:
        return tr.join("", [self, other]) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> str:
        return tr.join("", [other, self]) if isinstance(other, str) else NotImplemented

    def strip(self, chars: str | None = None, /) -> str:
        return self._stripped("both", chars)

    def lstrip(self, chars: str | None = None, /) -> str:
        return self._stripped("left", chars)

    def rstrip(self, chars: str | None = None, /) -> str:
        return self._stripped("right", chars)

    def _stripped(self, side: str, chars: str | None) -> str:
        if isinstance(chars, Symbolic):
            refuse("strip of what the row says")
            return self
        blanks, pieces = BLANKS if chars is None else plain_text(chars), self._pieces()
        if len(pieces) == 1:
            return self._stepped("strip", side, blanks)
        for one in ("left", "right"):
            if side in (one, "both"):
                pieces = _end_stripped(pieces, one, blanks)
        return tr.join("", pieces)

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        cut, between = self._cut(sep)
        most = operator.index(maxsplit)
        most = len(between) if most < 0 else min(most, len(between))
        return [*cut[:most], _rejoined(cut[most:], between[most:])]

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        cut, between = self._cut(sep)
        most = operator.index(maxsplit)
        first = 0 if most < 0 else max(len(between) - most, 0)
        return [_rejoined(cut[: first + 1], between[:first]), *cut[first + 1 :]]

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        cut, between = self._cut(sep)
        return (cut[0], between[0], _rejoined(cut[1:], between[1:])) if between else (self, "", "")

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        cut, between = self._cut(sep)
        return (_rejoined(cut[:-1], between[:-1]), between[-1], cut[-1]) if between else ("", "", self)

    def _cut(self, separator: str | None) -> tuple[list[str], list[str]]:
        """Itself, cut at each place of a separator; and the separators, which are of whoever wrote them."""
        if not isinstance(separator, str) or isinstance(separator, Symbolic) or not separator:
            refuse("split at blanks, or at what the row says")
            return [self], []
        wanted, pieces = plain_text(separator), self._pieces()
        groups, between = [""], list[str]()
        for piece in pieces:
            first, *others = piece._cut_apart(wanted) if isinstance(piece, Symbolic) else _cut_literal(piece, wanted)
            groups[-1] = groups[-1] + first
            between += others[::2]
            groups += others[1::2]
        _meets(pieces, wanted)
        return groups, between

    def _cut_apart(self, separator: str) -> list[str]:
        """A single expression, cut, the separators between its pieces; how many those are, and whether each says
        something, become guards."""
        if not self._asks("contains", separator):
            return [self]
        count = self._actual.count(separator)
        if count >= MOST_PIECES:
            refuse("split into many pieces")
        self._asks("pieces", (separator, count))
        between = tr.make(separator, (self._runs[0]._replace(size=len(separator), offset=-1),))
        recorder_now.get().literals.add(separator)
        found: list[str] = []
        for number in range(count + 1):
            piece = self._stepped("piece", separator, number)
            piece.strip()  # whether it says something becomes a guard
            found += [between, piece] if number else [piece]
        return found

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        constant = not isinstance(old, Symbolic) and old
        if not constant:
            refuse("replace of nothing, or of what the row says")
            return self
        wanted, pieces = plain_text(old), self._pieces()
        if wanted not in self:
            return self
        if operator.index(count) >= 0:
            refuse("replace of some")
        _meets(pieces, wanted)
        return tr.join("", [_replaced(piece, wanted, new) for piece in pieces])

    def removeprefix(self, prefix: str, /) -> str:
        return self._removed("starts", prefix)

    def removesuffix(self, suffix: str, /) -> str:
        return self._removed("ends", suffix)

    def _removed(self, question: str, what: str) -> str:
        if not self._at_an_end(question, what, ()):
            return self
        at = 0 if question == "starts" else -1
        pieces = self._pieces()
        piece, method = pieces[at], "removeprefix" if question == "starts" else "removesuffix"
        if isinstance(piece, Symbolic):
            pieces[at] = piece._stepped("method", method, plain_text(what))
        elif answer(question, plain_text(piece), plain_text(what)):
            pieces[at] = getattr(piece, method)(plain_text(what))
        else:
            refuse("an end across two fields")
        return tr.join("", pieces)

    def join(self, values: Iterable[str], /) -> str:
        return tr.join(self, list(values))

    def __iter__(self) -> Iterator[str]:
        refuse("iteration over text")
        yield from ()

    def __reversed__(self) -> Iterator[str]:
        yield from self

    def __getitem__(self, key: Any) -> str:
        if isinstance(key, str):
            raise TypeError("string indices must be integers")
        text = plain_text(self)
        if isinstance(key, slice) and key.step in (None, 1):
            start, stop = _known_edge(text, key.start, 0), _known_edge(text, key.stop, len(text))
            if start is not None and stop is not None and start <= stop:
                return _again(tr.cut(self, start, stop))
        if self._node is None:
            if self._whole is not None:
                return self._whole[key]
            refuse("a part of composed text")
            return self
        if isinstance(key, slice):
            edges = [self._edge(edge) for edge in (key.start, key.stop)]
            if key.step not in (None, 1):
                refuse("every so many characters of a text")
            return self._stepped("slice", *edges)
        if type(key) is not int:
            refuse("a character at a place that the row tells")
        if not length_of(self) > (key if key >= 0 else -key - 1):
            raise IndexError("string index out of range")
        return self._stepped("slice", key, key + 1 or None)

    def _edge(self, edge: Any) -> Edge:
        """An edge of a slice, as the step takes it."""
        if isinstance(edge, Length) and edge.of == plain_text(self):
            return "end", edge.shift
        if edge is not None and type(edge) is not int:
            refuse("a part of a text between places that the row tells")
        return edge if edge is None else int(edge)

    def _called(self, name: str, *args: Any) -> Any:
        """What another method gives: a question's answer, or another text."""
        if self._whole is not None:
            return self._whole._called(name, *args)
        given = getattr(str, name)(self._actual, *args)
        if len(self._pieces()) > 1 or any(not isinstance(arg, str | int) or isinstance(arg, Symbolic) for arg in args):
            refuse(f"{name} of composed text, or with what is no constant")
        elif isinstance(given, bool):
            return self._asks("says", (name, *args))
        elif isinstance(given, str):
            return self._stepped("method", name, *args)
        else:
            refuse(name)
        return given


_WORDS = ("lower", "upper", "title", "capitalize", "swapcase", "casefold")
_JUDGED = tuple(name for name in dir(str) if name.startswith("is"))


def _calling(name: str) -> Callable[..., Any]:
    def method(self: Symbolic, *args: Any) -> Any:
        return self._called(name, *args)

    return method


def _refusing(name: str) -> Callable[..., Any]:
    plain = getattr(str, name)

    def method(self: Symbolic, *args: Any, **kwargs: Any) -> Any:
        refuse(name)
        return plain(self._actual, *args, **kwargs)

    return method


# Every other method of a string gives its result for one row only.
_KEPT = set(vars(Symbolic)) | {name for name in dir(object) if name not in ("__format__", "__le__", "__lt__")}
_KEPT |= {"__len__", "__getnewargs__", "maketrans", "__str__", "__reduce__", *_WORDS, *_JUDGED}
for _name in (*_WORDS, *_JUDGED):
    setattr(Symbolic, _name, _calling(_name))
for _name in sorted(set(dir(str)) - _KEPT | {"__lt__", "__le__", "__gt__", "__ge__", "__format__"}):
    setattr(Symbolic, _name, _refusing(_name))


def letters(value: Any) -> Any:
    """What a loop goes over that does the same for each character of a text: one of them, for all."""
    if not isinstance(value, Symbolic):
        return value
    return [Letter("?")] if value else []


def length_of(text: Symbolic) -> Length:
    """The length of a text: `longer` of its one field, less the literals around it."""
    text = text._whole or text
    pieces = text._pieces()
    symbols = [piece for piece in pieces if isinstance(piece, Symbolic)]
    around = sum(str.__len__(piece) for piece in pieces if not isinstance(piece, Symbolic))

    def longer(number: int) -> bool:
        if number < around:
            return True
        if len(symbols) > 1:
            refuse("the length of composed text")
            return len(text._actual) > number
        return symbols[0]._asks("longer", number - around)

    return length(len(text._actual), longer, plain_text(text))


def symbolic(text: str, where: Field) -> Symbolic:
    """The field `where` of any row; `text` is its value in the row that answers the questions."""
    return of_expression(Expression(where), text)


def with_block(content: Symbolic) -> str:
    """A content of which the beginning is a block of reasoning, in pieces: what is around the reasoning and the answer
    is literal, and a guard."""
    parts = parted(content._actual)
    node, field = content._node, content._runs[0].field
    if parts is None or node is None or field is None:
        return content
    recorder = recorder_now.get()
    content._asks("block", (parts[0], parts[2]))
    recorder.literals |= {parts[0], parts[2]}
    pieces = [parts[0], "", parts[2], ""]
    for number, step in ((1, THOUGHTS), (3, ANSWER)):
        piece = of_expression(node._replace(steps=(*node.steps, step)), parts[number])
        pieces[number] = plain_text(piece) if piece._asks("filled", "") else ""
    text = "".join(pieces)
    recorder.wholes[text] = node
    return _make(text, (Run(len(text), field, 0, None, False),))


def of_expression(node: Expression, actual: str, field: Field | None = None, offset: int = 0) -> Symbolic:
    """An expression, with its value in the row that answers the questions; `field` is what it counts as a part of, -1
    the `offset` of what is more than that."""
    text = recorder_now.get().placeholder(node, actual)
    made = _make(text, (Run(len(text), field or node.field, offset, None, False),))
    assert isinstance(made, Symbolic)
    return made


def _of(node: Expression, run: Run) -> Symbolic:
    """An expression that is a step further than one with this run."""
    recorder = recorder_now.get()
    before = recorder.placeholders[node._replace(steps=node.steps[:-1])]
    last = Expression(node.field, node.steps[-1:])
    text = recorder.placeholder(node, last.of(recorder.actual(before)))
    made = _make(text, (run._replace(size=len(text)),))
    assert isinstance(made, Symbolic)
    return made


def _make(text: str, runs: Runs) -> Traced:
    """A text that is symbolic where it holds a placeholder."""
    if not PLACEHOLDER.search(text):
        return tr.make(text, runs)
    made = str.__new__(Symbolic, text)
    made._runs = runs
    return made


def _again(text: Traced) -> Traced:
    """What was cut out of a symbolic text."""
    return _make(plain_text(text), text._runs)


def of_text(text: str) -> str:
    """A text of placeholders and literals of no matter whom, to be asked."""
    return _make(text, (Run(len(text), None, 0, None, False),)) if text else ""


def plain_text(text: str) -> str:
    """The placeholders and literals as an exact `str`."""
    return "".join((str.__str__(text),))


def is_symbolic_text(value: object) -> bool:
    """Whether a value is a text of the row."""
    return isinstance(value, Symbolic)


def asks(text: Symbolic, question: str, value: Any) -> bool:
    """What a single field, or what was made of it, answers to a question; the answer becomes a guard."""
    return text._asks(question, value)


def in_json(text: Symbolic, *, ensure_ascii: bool) -> str:
    """A text as JSON writes it between quotes: as it is where nothing is escaped, which becomes a guard."""
    escaped = rf"{_ESCAPED}|[^\x00-\x7f]" if ensure_ascii else _ESCAPED
    found = []
    for piece in text._pieces():
        if not isinstance(piece, Symbolic):
            quoted = json.dumps(plain_text(piece), ensure_ascii=ensure_ascii)[1:-1]
            found.append(piece if quoted == plain_text(piece) else tr.coarse(quoted, piece))
        elif piece._asks("matches", escaped):
            found.append(piece._stepped("quoted", ensure_ascii))
        else:
            found.append(piece)
    return tr.join("", found)


def actual_of(value: Any) -> Any:
    return value._actual if isinstance(value, Symbolic) else value


def _known_edge(text: str, at: Any, default: int) -> int | None:
    """Where a slice of any row's text begins or ends in the symbolic one; None where that depends on the row."""
    if at is None:
        return default
    if type(at) is not int:
        return None
    place = at if at >= 0 else len(text) + at
    before = text[:place] if at >= 0 else text[place:]
    return place if 0 <= place <= len(text) and "\ue0f0" not in before and "\ue0f1" not in before else None


def _end_stripped(pieces: Sequence[str], side: str, blanks: str) -> list[str]:
    """Pieces, stripped at one end: as far as the first that something is left of."""
    left, at = list(pieces), 0 if side == "left" else -1
    while left:
        piece = left[at].lstrip(blanks) if side == "left" else left[at].rstrip(blanks)
        known = bool(piece) if not isinstance(piece, Symbolic) else len(left) == 1
        if known or (isinstance(piece, Symbolic) and piece._asks("filled", "")):
            left[at] = piece
            break
        left.pop(at)
    return left


def _cut_literal(text: str, separator: str) -> list[str]:
    """A literal, cut at each place of a separator, the separators between its pieces."""
    found: list[str] = []
    while separator in text:
        before, between, text = text.partition(separator)
        found += [before, between]
    return [*found, text]


def _rejoined(pieces: Sequence[str], between: Sequence[str]) -> str:
    """Pieces with what was between them."""
    return tr.join("", [part for pair in zip_longest(pieces, between, fillvalue="") for part in pair])


def _meets(pieces: Sequence[str], wanted: str) -> bool:
    """Makes sure that a constant lies across no edge between two pieces; returns False."""
    if len(wanted) < 2 or len(pieces) < 2:
        return False
    there = [piece for piece in pieces if not isinstance(piece, Symbolic) or piece._asks("filled", "")]
    for left, right in pairwise(there):
        for size in range(1, len(wanted)):
            if _may_meet(left, right, wanted[:size], wanted[size:]):
                refuse("a text that may lie across two fields")
    return False


def _may_meet(left: str, right: str, head: str, tail: str) -> bool:
    """Whether `left` may end in, or inside, `head`, and `right` may begin with, or inside, `tail`."""
    if not isinstance(left, Symbolic):
        text = plain_text(left)
        if not (text.endswith(head) or head.endswith(text)):
            return False
    if not isinstance(right, Symbolic):
        text = plain_text(right)
        if not (text.startswith(tail) or tail.startswith(text)):
            return False
    if isinstance(left, Symbolic) and not left._asks("ends", head[-1]):
        return False
    return not isinstance(right, Symbolic) or right._asks("starts", tail[0])


def _replaced(piece: str, old: str, new: str) -> str:
    """A piece with another text in the place of a constant."""
    if not isinstance(piece, Symbolic):
        return piece.replace(old, new)
    if not piece._asks("contains", old):
        return piece
    if isinstance(new, Symbolic) or _SET_APART.search(new):
        refuse("replace of a text by one of the row, or by a marker")
    if piece._asks("contains", old + old):  # what is lost between two characters is one stretch
        refuse("replace of a text that stands twice in a row")
    return piece._stepped("replace", old, plain_text(new))


def _joined(text: str, runs: Runs, separator: str, values: list[str]) -> Traced:
    """`traced.join` of values of which one is symbolic."""
    return _make(text, runs)


tr.on_join(Symbolic, _joined)
