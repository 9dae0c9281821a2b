"""Which data files of a folder are a split, by the names that `datasets` knows (`train-0001.jsonl`, `test/a.csv`).

In: a folder and the name of a split. Out: paths in order, all of one kind.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from datasets.data_files import DataFilesList, EmptyDatasetError, get_data_patterns

from instruct_fmt.errors import UsageError
from instruct_fmt.run.packed import kinds_of


def has_own_rules(folder: Path) -> bool:
    """Whether a dataset card says which files are a split."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    return text.startswith("---") and "\nconfigs:" in text.split("\n---")[0]


def split_files(folder: Path, split: str, kinds: Collection[str]) -> list[Path]:
    """The files of a split; none where the folder holds no file of these kinds.

    Raises:
        UsageError: there is no such split, or its files are of several kinds.
    """
    try:
        patterns = get_data_patterns(str(folder))
    except EmptyDatasetError:
        return []
    splits = {str(name): _files(folder, found, kinds) for name, found in patterns.items()}
    if not any(splits.values()):
        return []
    if not splits.get(split):
        names = ", ".join(name for name, files in splits.items() if files)
        raise UsageError(
            f"{folder}: found no split {split!r}; expected one of {names}; fix: set `split` to one of them"
        )
    by_kind = {kinds_of(path)[0]: path for path in reversed(splits[split])}
    if len(by_kind) > 1:
        files = " and ".join(str(path.relative_to(folder)) for path in sorted(by_kind.values()))
        raise UsageError(
            f"{folder}: found files of several kinds ({files}); expected one kind in a folder; "
            "fix: name each file under `datasets`"
        )
    return splits[split]


def _files(folder: Path, patterns: list[str], kinds: Collection[str]) -> list[Path]:
    found = map(Path, DataFilesList.from_patterns(patterns, base_path=str(folder)))
    return sorted(path for path in found if kinds_of(path)[0] in kinds)
