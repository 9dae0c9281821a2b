"""What is written down of the options is what is declared: documents, schema, the signature of `compile`."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
from benchlib import reference

import instruct_fmt as ifmt
from instruct_fmt.option_kinds import Choice
from instruct_fmt.options import Options, about
from instruct_fmt.run.config.load import load
from instruct_fmt.run.open import open_sources


@pytest.mark.parametrize("path", [path for path, _ in reference.pages()], ids=lambda path: path.name)
def test_documents_are_up_to_date(path: Path) -> None:
    """`scripts/reference` writes them anew."""
    assert path.read_text("utf-8") == dict(reference.pages())[path]


def test_the_signature_of_compile_is_that_of_the_options() -> None:
    parameters = dict(inspect.signature(ifmt.compile).parameters)
    for name in ("template", "tokenizer"):
        del parameters[name]
    defaults = Options()
    assert list(parameters) == [field.name for field in fields(Options)] == list(about())
    for name, parameter in parameters.items():
        expected = getattr(defaults, name)
        assert parameter.default == expected or (parameter.default is None and not expected), name


@pytest.mark.parametrize(
    "name", [name for name, said in about().items() if isinstance(said.kind, Choice) and name != "backend"]
)
def test_a_type_has_the_words_of_its_kind(name: str) -> None:
    kind = about()[name].kind
    assert isinstance(kind, Choice)
    for hints in (get_type_hints(Options), _hints()):
        words = re.findall(r"'(\w+)'", str(hints[name]))
        assert words == list(kind.meanings), name


def _hints() -> dict[str, object]:
    from datetime import datetime
    from typing import Any, Literal

    names = {"Any": Any, "Literal": Literal, "datetime": datetime, "os": __import__("os"), "Formatter": ifmt.Formatter}
    from collections.abc import Mapping, Sequence

    return get_type_hints(ifmt.compile, {**names, "Mapping": Mapping, "Sequence": Sequence})


def test_the_example_of_a_configuration_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = reference.PAGE.read_text("utf-8").split("```yaml\n")[-1].split("```")[0]
    (tmp_path / "run.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    config = load(str(tmp_path / "run.yaml"))
    (source,) = open_sources(config, tmp_path)
    assert source.fmt.settings.max_length == 4096


def test_the_schema_knows_every_key() -> None:
    schema = json.loads(reference.SCHEMA.read_text("utf-8"))
    assert about().keys() <= schema["properties"].keys()
    assert all("description" in schema["properties"][name] for name in about())
    assert schema["additionalProperties"] is False


def test_every_default_is_one_that_its_kind_takes() -> None:
    defaults = Options()
    for name, said in about().items():
        assert said.kind.checked(name, getattr(defaults, name)) == getattr(defaults, name)
        assert said.doc.endswith((".", ";")), name
