"""A fast engine under watch: a sample of a run is encoded by the reference, too, which takes over at a difference."""

from __future__ import annotations

import logging

import numpy as np

from instruct_fmt.common.foreign_errors import ForeignError, foreign_errors
from instruct_fmt.encode.engines.backend import Backend, Flat, Texts, chosen_of
from instruct_fmt.errors import shown

logger = logging.getLogger("instruct_fmt")

# The reference encodes a sample of some texts as well, and the next one behind so many times as many ids.
SAMPLE, CHECK_EVERY, SAMPLED_CHARACTERS = 3, 2000, 20_000


class WatchedBackend:
    """A fast engine, whose ids are compared with the reference's for a sample: one id of `CHECK_EVERY`."""

    def __init__(self, fast: Backend, reference: Backend) -> None:
        self._fast, self._reference = fast, reference
        self._due = 0
        self.name = fast.name

    def encode(self, texts: Texts) -> Flat:
        if self._fast is self._reference or not len(texts):
            return self._reference.encode(texts)
        try:
            with foreign_errors():
                ids, offsets = self._fast.encode(texts)
        except ForeignError as error:
            return self._taken_over(texts, f"raised {error}")
        self._due -= int(offsets[-1])
        if self._due > 0:
            return ids, offsets
        places = np.unique(np.linspace(0, len(texts) - 1, SAMPLE).astype(np.int64)).tolist()
        sample = [str(texts[place]) for place in places]
        long = any(len(text) > SAMPLED_CHARACTERS for text in sample)
        if long:  # their beginnings are enough: the reference takes seconds and gigabytes for some megabytes
            sample = [text[:SAMPLED_CHARACTERS] for text in sample]
        found, ends = self._fast.encode(sample) if long else chosen_of(ids, offsets, places)
        expected, edges = self._reference.encode(sample)
        self._due = CHECK_EVERY * int(edges[-1])
        for number, text in enumerate(sample):
            ours = found[ends[number] : ends[number + 1]]
            if not np.array_equal(ours, expected[edges[number] : edges[number + 1]]):
                return self._taken_over(texts, f"differs from tokenizers on {shown(text)}")
        return ids, offsets

    def differs(self, text: str) -> bool:
        """Whether the engine gives other ids than the reference, which then takes over."""
        if self._fast is self._reference:
            return False
        with foreign_errors():
            found, expected = self._fast.encode([text])[0], self._reference.encode([text])[0]
        wrong = not np.array_equal(found, expected)
        if wrong:
            self._taken_over([], f"differs from tokenizers on {shown(text)}")
        return wrong

    def _taken_over(self, texts: Texts, why: str) -> Flat:
        logger.warning("backend %s %s; tokenizers takes over", self.name, why)
        self._fast, self.name = self._reference, self._reference.name
        return self._reference.encode(texts)
