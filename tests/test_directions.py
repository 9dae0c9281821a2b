"""What may import what: rooms in the order of the flow, no way back, lazy imports counted too.

A *room* is a folder of the package, or one of the modules beside them. `docs/architecture.md` shows the same table.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "instruct_fmt"
# A room, and what it may import besides itself and the values.
VALUES = ("errors", "types", "version", "common", "embedded")
ROOMS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "version": (),
    "embedded": (),
    "types": ("errors",),
    "common": ("errors", "types"),
    "option_kinds": (*VALUES,),
    "options": ("option_kinds", "common"),
    "settings": (*VALUES, "options"),
    # the stages, blind to one another
    "tokenizer": (*VALUES,),
    "adapt": (*VALUES,),
    "template.trace": (*VALUES,),
    "template.source": (*VALUES, "template.trace"),
    "template.label": (*VALUES, "template.trace"),
    "template.plan": (*VALUES, "template.trace", "template.label"),
    "encode": (*VALUES, "tokenizer"),
    "fit": (*VALUES,),
    "emit": (*VALUES,),
    # what puts them in order, and the door to it
    "pipeline": (
        *(*VALUES, "settings", "tokenizer", "adapt", "template.source", "template.trace", "template.label"),
        *("template.plan", "encode", "fit", "emit"),
    ),
    "formatter": (*VALUES, "settings", "template.plan"),
    "__init__": ("errors", "formatter", "version", "run"),
    # what looks at formatters, or runs them
    "look": (*VALUES, "formatter", "emit"),
    "doctor": (*VALUES, "formatter", "tokenizer", "adapt", "template.trace", "template.label", "encode", "pipeline"),
    "train": (*VALUES, "formatter", "emit"),
    "run": (
        *VALUES,
        "formatter",
        "option_kinds",
        "options",
        "tokenizer",
        "template.source",
        "adapt",
        "pipeline",
        "look",
        "fit",
        "emit",
    ),
    "cli": (*VALUES, "adapt", "template.source", "run", "look", "doctor"),
    "__main__": ("cli",),
}
# The formatter's methods open what they need when they are called: one lazy door for each.
DOORS = {
    "adapt": "prompt, render",
    "doctor": "check",
    "emit": "encode",
    "look": "preview",
    "pipeline": "pipeline",
    "run": "__call__, prepare, prepare_pairs, tally, encode_table",
    "template.source": "compile, source",
    "tokenizer": "compile, tokenizer, vocabulary",
    "train": "sft_kwargs",
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[0] == "template" and len(parts) > 2:
        return ".".join(parts[:2])
    return parts[0]


def imports(path: Path, *, lazy: bool) -> Iterator[str]:
    """The rooms that a file imports, inside of functions or outside; what is for type checkers alone does not count."""
    package = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts[:-1])
    for node, inside in _statements(ast.parse(path.read_text(encoding="utf-8")), inside=False):
        names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
            names = [f"{base}.{name}" for name in names]
        for name in names:
            parts = name.split(".")
            if parts[0] == PACKAGE.name and inside == lazy:
                yield _room_of_module(parts[1:])


def _statements(node: ast.AST, *, inside: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, inside
        yield from _statements(child, inside=inside or isinstance(child, ast.FunctionDef))


def _room_of_module(parts: list[str]) -> str:
    if parts[0] == "template":
        return ".".join(parts[:2])
    known = (PACKAGE / parts[0]).is_dir() or (PACKAGE / f"{parts[0]}.py").is_file()
    return parts[0] if known else "__init__"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_what_comes_before_it(path: Path) -> None:
    room = room_of(path)
    if path.name == "__init__.py" and room not in ROOMS:
        assert not set(imports(path, lazy=False))
        return
    assert set(imports(path, lazy=False)) <= {room, *ROOMS[room]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_lazy_import_leads_the_same_way(path: Path) -> None:
    room = room_of(path)
    allowed = {room, *ROOMS.get(room, ()), *(DOORS if room == "formatter" else ())}
    assert set(imports(path, lazy=True)) <= allowed


def test_every_door_is_used() -> None:
    assert set(imports(PACKAGE / "formatter.py", lazy=True)) - set(ROOMS["formatter"]) - {"formatter"} == set(DOORS)


def test_there_is_no_way_back() -> None:
    """The rooms have an order in which each imports only earlier ones; the doors of the formatter aside."""
    order = list(ROOMS)
    for room, others in ROOMS.items():
        for other in others:
            later = order.index(other) > order.index(room)
            assert not later or (room, other) == ("__init__", "run"), (room, other)


def test_no_two_files_import_each_other() -> None:
    """No circle of files, lazy imports counted, but for those through a door."""
    edges = {_module(path): _modules_of(path) for path in FILES}
    edges["instruct_fmt.formatter"] = {
        name
        for name in edges["instruct_fmt.formatter"]
        if name.split(".")[1] not in {door.split(".")[0] for door in DOORS}
    }
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " → ".join((*way[way.index(module) :], module)) if module in way else ""
        if module not in done:
            for other in sorted(edges.get(module, ())):
                visit(other, (*way, module))
            done.add(module)

    for module in sorted(edges):
        visit(module, ())


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _modules_of(path: Path) -> set[str]:
    known = {_module(file) for file in FILES}
    found = set()
    for node, _ in _statements(ast.parse(path.read_text(encoding="utf-8")), inside=False):
        for alias in node.names:
            full = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
            found.add(full if full in known else full.rpartition(".")[0])
    return {name for name in found if name in known and name != _module(path)}


TWINS = {
    "adapt/adapter.py": "adapt/columns/find.py",
    "encode/row_encoder.py": "encode/column_encoder.py",
    "encode/seam_rows.py": "encode/seam_columns.py",
    "template/label/coverage.py": "template/plan/unprinted.py",
    "pipeline/other_rows.py": "pipeline/planned_rows.py",
}


@pytest.mark.parametrize("slow", TWINS)
def test_a_fast_path_and_its_twin_name_each_other(slow: str) -> None:
    for one, other in ((slow, TWINS[slow]), (TWINS[slow], slow)):
        docstring = ast.get_docstring(ast.parse((PACKAGE / one).read_text(encoding="utf-8")))
        assert docstring is not None
        assert other.rsplit("/", 1)[-1] in docstring, (one, other)


def test_every_room_has_files() -> None:
    """The tests above mean something."""
    assert {room_of(path) for path in FILES} - {"template"} <= set(ROOMS)
    assert set(ROOMS) <= {room_of(path) for path in FILES}
