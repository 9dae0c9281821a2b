"""How a tokenizer is loaded, and how it travels to another process."""

from __future__ import annotations

import gc
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from tokenizers import Tokenizer

from instruct_fmt.common.files import expanded, is_name, read_json, read_whole
from instruct_fmt.common.foreign_errors import ForeignError, foreign_errors
from instruct_fmt.errors import TokenizerError, UsageError, shown
from instruct_fmt.tokenizer import cache as tokenizer_cache
from instruct_fmt.tokenizer.vocabulary import MAX_ID, Contents, Vocabulary

EMBEDDED = "embedded"
_MAX_BYTES, _MAX_STOPS, _MAX_DEFINITION = 10_000_000, 1000, 120_000_000
_DEFINITIONS = ("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model")
_HIGH = re.compile(rb"[:,\[\s][0-9]{8,}")
# Formatters of this process that use one folder share what was read off it, while any of them is there.
_in_use: WeakValueDictionary[str, Vocabulary] = WeakValueDictionary()


@dataclass(frozen=True, slots=True)
class TokenizerReference:
    """A tokenizer by its name and the hash of its contents, or, where no name leads to those contents, by them.

    Attributes:
        name: what `AutoTokenizer.from_pretrained` takes; empty where the tokenizer travels by content.
        digest: the hash of the contents.
        content: its `Contents` as JSON; empty for a name.
    """

    name: str
    digest: str
    content: str = ""

    def load(self) -> Any:
        """The tokenizer again.

        Raises:
            TokenizerError: what the name leads to is not what it was.
        """
        if self.content:
            return _from_content(self.content)
        tokenizer = load_tokenizer(self.name)
        self._check(Vocabulary.of(tokenizer))
        return tokenizer

    def vocabulary(self) -> Vocabulary:
        """What is to be read off the tokenizer; see `load`."""
        if self.content:
            return Vocabulary(Contents(**json.loads(self.content)))
        vocabulary = load_vocabulary(self.name)
        self._check(vocabulary)
        return vocabulary

    def _check(self, found: Vocabulary) -> None:
        if found.digest != self.digest:
            raise TokenizerError(
                f"the tokenizer {self.name!r} has changed; expected the contents {self.digest[:12]}; "
                "fix: compile the formatter again"
            )


def load_tokenizer(name: str | os.PathLike[str]) -> Any:
    """A tokenizer by name or path; `embedded` is the one in this package.

    Raises:
        TokenizerError: there is none of that name.
    """
    from transformers import AutoTokenizer

    path = _path(name)
    with _understood(name), _no_collection():
        _check_ids(Path(path) / "tokenizer.json")
        # A folder's own code is never run, and nobody is asked on standard input whether it may be.
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False)


def load_vocabulary(name: str | os.PathLike[str]) -> Vocabulary:
    """What is read off the tokenizer of that name; from the cache, if it is kept there.

    Raises:
        TokenizerError: there is none of that name.
    """
    folder = Path(_path(name))  # a name on the Hub may lead elsewhere tomorrow
    key = f"{name}\n{tokenizer_cache.key_of(folder)}"
    vocabulary = _in_use.get(key) or tokenizer_cache.read(folder)
    if vocabulary is None:
        tokenizer = load_tokenizer(name)
        with _understood(name):
            vocabulary = Vocabulary.of(tokenizer, private=True)
        tokenizer_cache.write(folder, vocabulary)
    if not key.endswith("\nNone"):
        _in_use[key] = vocabulary
    return vocabulary


def _check_ids(path: Path) -> None:
    """Refuse a vocabulary with an id so high that an engine would make room for thousands of millions of tokens.

    Raises:
        TokenizerError: it has one.
    """
    for file in tokenizer_cache.files_read(path.parent):
        if file.is_file() and file.stat().st_size > (_MAX_DEFINITION if file.name in _DEFINITIONS else _MAX_BYTES):
            raise TokenizerError(
                file, f"a file of {file.stat().st_size:,} bytes", "one as tokenizers have", "check the folder"
            )
    if not path.is_file():
        return
    raw = read_whole(path, _MAX_DEFINITION)
    if not _HIGH.search(raw):
        return
    numbers: list[int] = []
    json.loads(raw, parse_int=lambda digits: numbers.append(int(digits[:20])))
    if (highest := max(numbers, default=0)) > MAX_ID:
        raise TokenizerError(path, f"the id {highest:,}", f"ids up to {MAX_ID:,}", "correct the file")


@contextmanager
def _understood(name: str | os.PathLike[str]) -> Iterator[None]:
    """What libraries raise over a tokenizer's files, as an error that names them."""
    try:
        with foreign_errors():
            yield
    except ForeignError as error:
        raise TokenizerError(
            f"tokenizer {shown(str(name))}: {error}; expected a folder with a whole tokenizer.json and no code of its "
            "own, or a name on the Hub; fix: check the name and the files, or pass a loaded tokenizer"
        ) from error.__cause__


def _path(name: str | os.PathLike[str]) -> str | os.PathLike[str]:
    if str(name) != EMBEDDED:
        if _is_path(str(name)) and not expanded(name).exists():
            raise TokenizerError(
                f"tokenizer {shown(str(name))}",
                "no such folder",
                "a folder with a tokenizer.json, or a name on the Hub such as 'Qwen/Qwen3-8B'",
                "correct the path",
            )
        if not is_name(str(name)):
            raise TokenizerError(f"tokenizer {shown(str(name))}", "no name of a folder", "one", "correct it")
        return expanded(name) if str(name).startswith("~") else name
    from instruct_fmt import embedded

    return embedded.tokenizer_path()


def _is_path(name: str) -> bool:
    """Whether a name can only be a path: those on the Hub have one slash at most."""
    return name.startswith(("/", "./", "../", "~")) or name.count("/") > 1 or "\\" in name


@contextmanager
def _no_collection() -> Iterator[None]:
    """No search for garbage while a vocabulary is read: a third of the time goes into looking at what is all in use."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def reference(vocabulary: Vocabulary) -> TokenizerReference:
    """How a tokenizer travels that was given as an object: by name if the name leads to the same contents."""
    if vocabulary.name and Path(vocabulary.name).is_dir():  # a name on the Hub may ask the network; the contents do not
        try:
            if load_vocabulary(vocabulary.name).digest == vocabulary.digest:
                return TokenizerReference(vocabulary.name, vocabulary.digest)
        except TokenizerError:
            pass
    return TokenizerReference("", vocabulary.digest, json.dumps(asdict(vocabulary.contents)))


def _from_content(content: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    contents = Contents(**json.loads(content))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(contents.definition), **contents.special)
    tokenizer.chat_template = contents.chat_template
    return tokenizer


def json_beside(path: Path) -> Any:
    """A small JSON file in a tokenizer's folder.

    Raises:
        TokenizerError: it is none.
    """
    try:
        return read_json(path, _MAX_BYTES)
    except UsageError as error:
        raise TokenizerError(str(error)) from error


def generation_stops(vocabulary: Vocabulary) -> list[str]:
    """The stop tokens of a `generation_config.json` beside a tokenizer, where there is one."""
    path = Path(vocabulary.name) / "generation_config.json"
    if not vocabulary.name or not is_name(vocabulary.name) or not path.is_file():
        return []
    config = json_beside(path)
    found = config.get("eos_token_id") if isinstance(config, dict) else config
    ids = found if isinstance(found, list) else [] if found is None else [found]
    if not isinstance(config, dict) or not all(type(id) is int for id in ids) or len(ids) > _MAX_STOPS:
        raise TokenizerError(
            path,
            f"the stop tokens {shown(found)}",
            "an object with `eos_token_id`, an id or a list of ids",
            "repair or remove the file",
        )
    size = vocabulary.backend.get_vocab_size() + _MAX_STOPS
    tokens = [vocabulary.backend.id_to_token(id) for id in ids if 0 <= id < size]
    return [token for token in tokens if token is not None]
