"""The table of hostile inputs; `scripts/hostile_table` runs this."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import hostile_files
import hostile_templates
from hostile_judge import MAX_MEGABYTES, MAX_SECONDS, Case, Verdict, judge

import instruct_fmt as ifmt

KINDS: dict[str, Callable[[], Iterable[Case]]] = {"templates": hostile_templates.cases, "files": hostile_files.cases}
INTRODUCTION = f"""# Hostile inputs

Templates, rows, files, configurations, tokenizers and folders that try something, each in a process of its own, forked from
one that has everything loaded. `s` is processor time, `MB` peak memory above what was there before. Wrong would be: a
traceback or an error of no kind of ours, more than {MAX_SECONDS:g} s, more than {MAX_MEGABYTES} MB, a hang, a wrong label,
a file of the user's that is gone, a module of the current folder that is imported. Made by `scripts/hostile_table --write
docs/hostile.md`.
"""


def warm() -> None:
    """Load what every case needs."""
    import os

    os.environ.setdefault("INSTRUCT_FMT_CACHE", tempfile.mkdtemp(prefix="hostile-cache-"))
    fmt = ifmt.compile(None, "embedded")
    fmt.encode(hostile_files.ROW)
    import datasets
    import transformers

    assert transformers.AutoTokenizer
    datasets.disable_progress_bars()


def main(arguments: Sequence[str]) -> int:
    """Run, print, write; returns 1 where something was wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("-k", default="", help="a part of the name")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args(arguments)
    warm()
    kinds = [options.only] if options.only else list(KINDS)
    found: dict[str, list[tuple[Case, Verdict]]] = {}
    with ThreadPoolExecutor(2) as threads:
        for kind in kinds:
            chosen = [case for case in KINDS[kind]() if options.k in case.name]
            found[kind] = list(zip(chosen, threads.map(judge, chosen), strict=True))
    wrong = [verdict for rows in found.values() for _, verdict in rows if verdict.wrong]
    for verdict in wrong:
        print(f"{verdict.name}: {verdict.wrong}  ({verdict.seconds:.1f} s, {verdict.megabytes} MB)")
    for kind, rows in found.items():
        slow = max((verdict.seconds for _, verdict in rows), default=0)
        large = max((verdict.megabytes for _, verdict in rows), default=0)
        print(f"{kind}: {len(rows)} cases, at most {slow:.1f} s and {large} MB")
    print(f"wrong: {len(wrong)}")
    if options.write:
        options.write.write_text(_table(found), encoding="utf-8")
    return 1 if wrong else 0


def _table(found: dict[str, list[tuple[Case, Verdict]]]) -> str:
    lines = [INTRODUCTION]
    for kind, rows in found.items():
        lines.append(
            f"\n## {kind.capitalize()}: {len(rows)}\n\n| case | tries | answer | s | MB | wrong |\n|---|---|---|---|---|---|"
        )
        for case, verdict in rows:
            cells = [
                verdict.name,
                case.tries,
                verdict.answer,
                f"{verdict.seconds:.1f}",
                str(verdict.megabytes),
                verdict.wrong,
            ]
            lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    shown = "".join(char if char.isprintable() else "·" for char in text)
    return shown.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
