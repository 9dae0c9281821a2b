"""What `import instruct_fmt` must not load, and what it must not do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "trl", "ray", "pyspark", "transformers.models", "accelerate", "pandas", "rich", "typer")
PACKAGE = Path(__file__).resolve().parent.parent / "instruct_fmt"


def loaded(statement: str) -> set[str]:
    """The modules of a new process after a statement."""
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    names: list[str] = json.loads(done.stdout)
    return set(names)


@pytest.mark.parametrize(
    "module", ["instruct_fmt", "instruct_fmt.train.trainers", "instruct_fmt.train.collate", "instruct_fmt.look.preview"]
)
def test_the_core_stays_light(module: str) -> None:
    modules = loaded(f"import {module}")
    assert module in modules
    heavy = {name for name in modules for root in HEAVY if name == root or name.startswith(root + ".")}
    assert heavy == set()


def test_public_names_exist() -> None:
    import instruct_fmt

    assert instruct_fmt.__version__ == "0.1.0"
    assert {"compile", "Formatter", "InstructFmtError"} <= set(instruct_fmt.__all__)
    assert all(hasattr(instruct_fmt, name) for name in instruct_fmt.__all__)


def test_the_package_is_typed_and_carries_its_data() -> None:
    assert (PACKAGE / "py.typed").is_file()
    assert (PACKAGE / "embedded" / "tokenizer" / "tokenizer.json").is_file()
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)
