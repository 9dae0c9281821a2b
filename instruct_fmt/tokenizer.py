"""How a tokenizer is loaded, and how it travels to another process."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from instruct_fmt.encode.vocabulary import Vocabulary
from instruct_fmt.errors import TokenizerError, shown

EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class TokenizerReference:
    """A tokenizer by its name and the hash of its contents, or, where no name leads to those contents, by them.

    Attributes:
        name: what `AutoTokenizer.from_pretrained` takes; empty where the tokenizer travels by content.
        digest: the hash of the contents.
        content: the engine's JSON, the special tokens and the chat template, as JSON; empty for a name.
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
        if Vocabulary(tokenizer).digest != self.digest:
            raise TokenizerError(
                f"the tokenizer {self.name!r} has changed; expected the contents {self.digest[:12]}; "
                "fix: compile the formatter again"
            )
        return tokenizer


def load_tokenizer(name: str | os.PathLike[str]) -> Any:
    """A tokenizer by name or path; `embedded` is the one in this package.

    Raises:
        TokenizerError: there is none of that name.
    """
    from transformers import AutoTokenizer

    path: str | os.PathLike[str] = name
    if str(name) == EMBEDDED:
        from instruct_fmt import embedded

        path = embedded.tokenizer_path()
    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise TokenizerError(
            f"tokenizer {shown(str(name))}: {str(error).splitlines()[0]}; expected a folder with tokenizer.json or a "
            "name on the Hub; fix: check the name, or pass a loaded tokenizer"
        ) from error


def reference(name: str | None, tokenizer: Any, vocabulary: Vocabulary) -> TokenizerReference:
    """How this tokenizer travels: by name if the name leads to the same contents, else by content."""
    if name is not None:
        return TokenizerReference(name, vocabulary.digest)  # it was loaded by this name just now
    candidate = str(getattr(tokenizer, "name_or_path", "") or "")
    if candidate and Path(candidate).is_dir():  # a name on the Hub may ask the network; the contents do not
        try:
            if Vocabulary(load_tokenizer(candidate)).digest == vocabulary.digest:
                return TokenizerReference(candidate, vocabulary.digest)
        except TokenizerError:
            pass
    parts = [vocabulary.backend.to_str(), vocabulary.special, vocabulary.chat_template]
    return TokenizerReference("", vocabulary.digest, json.dumps(parts))


def _from_content(content: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    engine, special, chat_template = json.loads(content)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(engine), **special)
    tokenizer.chat_template = chat_template
    return tokenizer


def generation_stops(tokenizer: Any) -> list[str]:
    """The stop tokens of a `generation_config.json` beside a tokenizer, where there is one."""
    path = Path(str(getattr(tokenizer, "name_or_path", "") or "")) / "generation_config.json"
    if not path.is_file():
        return []
    try:
        ids = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    except (json.JSONDecodeError, AttributeError) as error:
        raise TokenizerError(f"{path}: {error}; expected a JSON object; fix: repair or remove the file") from error
    ids = [ids] if isinstance(ids, int) else ids or []
    tokens = tokenizer.convert_ids_to_tokens(ids)
    return [token for token in tokens if isinstance(token, str)]
