"""What follows from the options: the reference of configurations, its schema, and the arguments of `compile`.

In: `Options` and the schema of configurations. Out: texts, written into their files or compared with them.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from instruct_fmt.option_kinds import Choice, Trained
from instruct_fmt.options import About, Options, about
from instruct_fmt.run.config.schema import ALIASES, DATASET_ALIASES, Config, DatasetConfig, OutputConfig

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PAGE, SCHEMA = REPOSITORY / "docs" / "configuration.md", REPOSITORY / "docs" / "configuration.schema.json"
DOOR = REPOSITORY / "instruct_fmt" / "formatter.py"
_WIDTH = 120
_HERE = Path(__file__).resolve().parent


def main() -> int:
    """Writes what is out of date; with `--check` only tells, and returns 1."""
    stale = [path for path, text in pages() if not path.is_file() or path.read_text("utf-8") != text]
    for path, text in pages():
        if path in stale:
            print(f"{path.relative_to(REPOSITORY)}: {'out of date' if '--check' in sys.argv else 'written'}")
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    return 1 if stale and "--check" in sys.argv else 0


def pages() -> Iterator[tuple[Path, str]]:
    """Each file that follows from the options, and what should be in it."""
    yield PAGE, "".join([_part("head"), *_options(), *_run(), *_datasets(), *_aliases(), *_example(), _part("tail")])
    yield SCHEMA, json.dumps(Config.model_json_schema(), indent=2) + "\n"
    yield DOOR, documented(DOOR.read_text("utf-8"))


def _part(name: str) -> str:
    return (_HERE / f"configuration_{name}.md").read_text("utf-8")


def _options() -> Iterator[str]:
    yield "## Options\n\nOf `compile` and of a configuration. *D* marks those that one dataset may have for itself.\n\n"
    yield "| option | default | | meaning |\n|---|---|---|---|\n"
    defaults = Options()
    for name, said in about().items():
        default = getattr(defaults, name)
        shown = "" if default in (None, (), {}) else f"`{default}`"
        yield f"| `{name}` | {shown} | {'D' if said.of_dataset else ''} | {_meaning(said)} |\n"
    yield "\n"


def _meaning(said: About) -> str:
    parts = [said.doc]
    if isinstance(said.kind, Choice | Trained):
        parts += [_words(said.kind) + "."]
    elif said.example:
        parts.append(f"Such as `{said.example}`.")
    return " ".join(parts).replace("|", "\\|")


def _run() -> Iterator[str]:
    own = [name for name in Config.model_fields if name not in {*about(), "left_to_trainer", "output"}]
    yield "## Keys of a run\n\n| key | default | meaning |\n|---|---|---|\n"
    for name in own:
        yield _row(name, Config.model_fields[name])
    for name, field in OutputConfig.model_fields.items():
        yield _row(f"output.{name}", field)
    yield "\n"


def _datasets() -> Iterator[str]:
    yield "## Keys of a dataset\n\nAnd the options marked with *D*, `template` and axolotl's keys of a run.\n\n"
    yield "| key | default | meaning |\n|---|---|---|\n"
    for name, field in DatasetConfig.model_fields.items():
        if name not in Config.model_fields:
            yield _row(name, field)
    yield "\n"


def _row(name: str, field: Any) -> str:
    default = "" if field.is_required() or field.default in (None, [], ()) else f"`{field.default}`"
    example = f" Such as `{_flow(field.examples[0])}`." if field.examples else ""
    meaning = f"{field.description}{example}".replace("|", "\\|")
    return f"| `{name}` | {default} | {meaning} |\n"


def _flow(value: Any) -> str:
    return (
        str(yaml.safe_dump(value, default_flow_style=True, width=1000)).removesuffix("\n").removesuffix("\n...").strip()
    )


def _aliases() -> Iterator[str]:
    yield "## Other names\n\nKeys of other tools that mean the same; more of them are in `docs/migration.md`.\n\n"
    for title, aliases in (("of a run", ALIASES), ("of a dataset", DATASET_ALIASES)):
        ours: dict[str, list[str]] = {}
        for theirs, name in aliases.items():
            ours.setdefault(name, []).append(f"`{theirs}`")
        yield f"| key {title} | other names |\n|---|---|\n"
        yield from (f"| `{name}` | {', '.join(names)} |\n" for name, names in ours.items())
        yield "\n"


def _example() -> Iterator[str]:
    yield "## A whole file\n\nMost keys, many not with their default; a tokenizer and a dataset are enough.\n\n"
    yield "```yaml\n"
    yield from _commented("tokenizer", Config.model_fields["tokenizer"].description, "embedded")
    yield "datasets:\n"
    first = True
    for name in ("path", "split", "on_bad_row"):
        field = DatasetConfig.model_fields[name]
        value = "embedded" if name == "path" else _flow((field.examples or [None])[0])
        yield f"  {'-' if first else ' '} {name}: {value}  # {field.description}\n"
        first = False
    yield from _commented("output", "Where the result goes.", "{path: out/prepared, format: parquet}")
    for name in ("num_proc", "keep_columns"):
        field = Config.model_fields[name]
        yield from _commented(name, field.description, "2" if name == "num_proc" else "[]")
    for name, said in about().items():
        if name not in ("columns", "format", "field_map", "completion_format", "template_kwargs"):
            yield from _commented(name, said.doc, said.example)
    yield "```\n\n"


def _commented(name: str, doc: str | None, value: str) -> Iterator[str]:
    yield from (f"# {line}\n" for line in textwrap.wrap(doc or "", _WIDTH - 2))
    yield f"{name}: {value}\n"


def documented(source: str) -> str:
    """The module of `compile`, the options in its docstring as they are declared."""
    lines = []
    for name, said in about().items():
        text = f"{name}: {_sentence(said)}"
        lines += textwrap.wrap(text, _WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 12)
    begin = source.index("        columns: ", source.index("def compile("))
    end = source.index("\n\n    Raises:", begin)
    return source[:begin] + "\n".join(lines) + source[end:]


def _words(kind: Choice | Trained) -> str:
    return "; ".join(f"`{word}`: {meaning}" for word, meaning in kind.meanings.items())


def _sentence(said: About) -> str:
    text = said.doc[:1].lower() + said.doc[1:]
    if isinstance(said.kind, Choice | Trained):
        text += " " + _words(said.kind) + "."
    elif said.example:
        text += f" Such as ``{said.example}``."
    return re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", text).replace("\\", "\\\\")


if __name__ == "__main__":
    sys.exit(main())
