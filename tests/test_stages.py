"""One direction: the stages are blind to one another and to whatever stands above them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "instruct_fmt"
STAGES = ("adapt", "template", "encode", "fit")
VALUES = {"errors", "files", "foreign_errors", "forks", "reasoning", "names", "types"}
CORE = sorted(path for stage in STAGES for path in (PACKAGE / stage).rglob("*.py"))


def _imports(path: Path) -> Iterator[str]:
    """The parts of the package that a file imports: `template`, `errors`, …"""
    package = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
            names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "instruct_fmt":
                yield parts[1] if len(parts) > 1 else ""


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_stage_imports_itself_and_values_only(path: Path) -> None:
    stage = path.relative_to(PACKAGE).parts[0]
    assert set(_imports(path)) <= {stage, *VALUES}


def test_only_the_pipeline_knows_all_stages() -> None:
    """Outside of the stages, one module puts them in order; the formatter is its door."""
    outside = [path for path in PACKAGE.rglob("*.py") if path not in CORE]
    knows = {path.name: len(set(_imports(path)) & set(STAGES)) for path in outside}
    assert [name for name, count in knows.items() if count == len(STAGES)] == ["pipeline.py"]
    assert {name for name, count in knows.items() if count > 2} <= {"pipeline.py", "formatter.py"}


def test_values_import_nothing_of_the_package() -> None:
    for name in VALUES:
        assert set(_imports(PACKAGE / f"{name}.py")) <= VALUES


def test_every_stage_has_files() -> None:
    """The tests above mean something."""
    assert {path.relative_to(PACKAGE).parts[0] for path in CORE} == set(STAGES)
