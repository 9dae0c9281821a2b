"""How a tokenizer is loaded, and how it travels to another process."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from tokenizers import Tokenizer

from instruct_fmt import tokenizer_cache
from instruct_fmt.encode.vocabulary import Contents, Vocabulary
from instruct_fmt.errors import TokenizerError, shown

EMBEDDED = "embedded"
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
    try:
        with _no_collection():
            return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise TokenizerError(
            f"tokenizer {shown(str(name))}: {str(error).splitlines()[0]}; expected a folder with tokenizer.json or a "
            "name on the Hub; fix: check the name, or pass a loaded tokenizer"
        ) from error


def load_vocabulary(name: str | os.PathLike[str]) -> Vocabulary:
    """What is read off the tokenizer of that name; from the cache, if it is kept there.

    Raises:
        TokenizerError: there is none of that name.
    """
    folder = Path(_path(name))  # a name on the Hub may lead elsewhere tomorrow
    key = f"{name}\n{tokenizer_cache.key_of(folder)}"
    vocabulary = _in_use.get(key) or tokenizer_cache.read(folder)
    if vocabulary is None:
        vocabulary = Vocabulary.of(load_tokenizer(name), private=True)
        tokenizer_cache.write(folder, vocabulary)
    if not key.endswith("\nNone"):
        _in_use[key] = vocabulary
    return vocabulary


def _path(name: str | os.PathLike[str]) -> str | os.PathLike[str]:
    if str(name) != EMBEDDED:
        return name
    from instruct_fmt import embedded

    return embedded.tokenizer_path()


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


def generation_stops(vocabulary: Vocabulary) -> list[str]:
    """The stop tokens of a `generation_config.json` beside a tokenizer, where there is one."""
    path = Path(vocabulary.name) / "generation_config.json"
    if not vocabulary.name or not path.is_file():
        return []
    try:
        ids = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    except (json.JSONDecodeError, AttributeError) as error:
        raise TokenizerError(f"{path}: {error}; expected a JSON object; fix: repair or remove the file") from error
    ids = [ids] if isinstance(ids, int) else ids or []
    tokens = [vocabulary.backend.id_to_token(id) for id in ids]
    return [token for token in tokens if token is not None]
