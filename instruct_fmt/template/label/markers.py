"""What a marker looks like where it is no token of the tokenizer: `<think>`, `<|im_end|>`, `[INST]`.

Texts of templates are full of angles and brackets, so each question has the form that fits it.
"""

from __future__ import annotations

import re

MARKER = re.compile(r"<[^<>\s]{1,60}>|\[/?[A-Z_]{2,30}\]|\[[|｜][^\[\]\s]{1,40}[|｜]\]")
"""Anything in a template's own text that may be a marker; none holds a blank."""
ENDING = re.compile(r"<[|｜][^<>]{1,60}[|｜]>|</?[A-Za-z_][^<>\s]{0,60}>|\[/?[A-Z_]{2,30}\]")
"""What may end a turn: a name, or anything between bars, blanks too; no arrow such as ``<->``."""
ANGLES = re.compile(r"<[^<>\s]{1,60}>")
"""A marker in angles."""
BETWEEN_BARS = re.compile(r"<[|｜][^<>\s]{1,60}[|｜]>")
"""A marker of the kind that is always a token of its own."""
SHOWN = re.compile(r"</?[|｜]?[A-Za-z_][^<>\n]{0,60}>|\[/?[A-Z_]{2,30}\]|\[\|\w{1,60}\|\]")
"""What people take for a marker, and should be told where it is several tokens."""
