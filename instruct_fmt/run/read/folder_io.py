"""Which data files of a folder are a split, by the names that `datasets` knows (`train-0001.jsonl`, `test/a.csv`).

In: a folder and the name of a split. Out: paths in order, all of one kind. No file is left out in silence.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path

from datasets.data_files import DataFilesList, EmptyDatasetError, get_data_patterns

from instruct_fmt.errors import UsageError
from instruct_fmt.run.read.packed import kinds_of
from instruct_fmt.run.read.places import odd_kind

# Kinds of files that stand beside data and are none.
_BESIDE = ("", ".md", ".rst", ".py", ".sh", ".yaml", ".yml", ".ipynb", ".toml", ".cfg", ".ini", ".log", ".lock")
_MOST_FILES = 10_000
_CARD = 1 << 20


def check_members(folder: Path, kinds: Collection[str]) -> None:
    """Refuse a folder with more files than a dataset has, or with members that would be passed over in silence.

    Raises:
        UsageError: there are too many, or a link to a folder or to nowhere, a pipe or the like among the data.
        OSError: a folder inside cannot be read.
    """
    waiting, count = [str(folder)], 0
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                count += 1
                if count > _MOST_FILES:
                    raise UsageError(
                        folder,
                        f"more than {_MOST_FILES:,} files and folders in it",
                        "a folder of one dataset",
                        "name the folder that holds the data",
                    )
                hidden = entry.name.startswith((".", "__"))
                if entry.is_dir(follow_symlinks=False):
                    # `datasets` looks into hidden ones, too, before it leaves them out.
                    waiting.append(entry.path)
                elif hidden or "/." in entry.path[len(str(folder)) :]:
                    continue
                elif entry.is_dir() or kinds_of(Path(entry.name))[0] in kinds:
                    _check_member(Path(entry.path), entry)


def _check_member(path: Path, entry: os.DirEntry[str]) -> None:
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        found = f"a link that leads nowhere ({error.strerror})"
    else:
        found = "a link to a folder" if stat.S_ISDIR(mode) else odd_kind(mode) or ""
    if found:
        raise UsageError(
            path, f"{found} among the data", "files", "remove it, or name each file that you want under `datasets`"
        )


def has_own_rules(folder: Path) -> bool:
    """Whether a dataset card says which files are a split."""
    card = folder / "README.md"
    if not card.is_file():
        return False
    with card.open(encoding="utf-8", errors="replace") as file:
        text = file.read(_CARD)
    return text.startswith("---") and "\nconfigs:" in text.split("\n---")[0]


def split_files(folder: Path, split: str, kinds: Collection[str]) -> list[Path]:
    """The files of a split; none where the folder holds no file of these kinds.

    Raises:
        UsageError: there is no such split, its files are of several kinds or one that cannot be read, or a file
            belongs to no split, or to two.
    """
    base = glob.escape(str(folder))
    try:
        patterns = get_data_patterns(base)
    except EmptyDatasetError:
        return []
    splits = {str(name): _files(base, found) for name, found in patterns.items()}
    if not any(kinds_of(path)[0] in kinds for files in splits.values() for path in files):
        return []
    _check_once(folder, splits, _files(base, ["**"]))
    if not splits.get(split):
        names = ", ".join(name for name, files in splits.items() if files)
        raise UsageError(folder, f"no split {split!r}", f"one of {names}", "set `split` to one of them")
    strange = next((path for path in splits[split] if kinds_of(path)[0] not in kinds), None)
    if strange:
        raise UsageError(
            strange,
            f"a file of kind {strange.suffix!r} among the data",
            f"one of {', '.join(kinds)}",
            "convert it, move it, or name each file that you want under `datasets`",
        )
    by_kind = {kinds_of(path)[0]: path for path in reversed(splits[split])}
    if len(by_kind) > 1:
        files = " and ".join(os.path.relpath(path, folder) for path in sorted(by_kind.values()))
        raise UsageError(
            folder, f"files of several kinds ({files})", "one kind in a folder", "name each file under `datasets`"
        )
    return splits[split]


def _files(base: str, patterns: list[str]) -> list[Path]:
    found = {Path(path) for path in DataFilesList.from_patterns(patterns, base_path=base)}
    return sorted(path for path in found if kinds_of(path)[0] not in _BESIDE)


def _check_once(folder: Path, splits: Mapping[str, list[Path]], files: list[Path]) -> None:
    for path in files:
        names = [name for name, found in splits.items() if path in found]
        if len(names) != 1:
            where = f"in the splits {' and '.join(names)}" if names else f"in no split ({', '.join(splits)})"
            raise UsageError(
                folder,
                f"{os.path.relpath(path, folder)} {where}, by its name",
                "each file in one",
                "rename it, or name each file that you want under `datasets`",
            )
