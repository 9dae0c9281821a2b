"""Modules in the current folder that have the names of others: none of them may be imported."""

from __future__ import annotations

from collections.abc import Mapping

from hostile_fork import MARK
from hostile_write import Setup, file, together

CODE = f"import os\nwith open(os.environ['{MARK}'], 'a') as mark:\n    mark.write(__file__ + ' ')\n"
_NAMES = (
    "pickle", "datasets", "json", "typing", "yaml", "numpy", "pyarrow", "transformers", "tokenizers", "jinja2",
    "struct", "signal", "subprocess", "torch", "random", "types", "sitecustomize", "usercustomize", "instruct_fmt",
    "encodings",
    "readline", "rich", "typer", "copyreg", "zoneinfo", "tzdata", "pandas", "fastokens", "gigatoken",
)  # fmt: skip

MODULES: Mapping[str, Setup] = {
    **{f"{name}.py": file(f"{name}.py", CODE) for name in _NAMES},
    "a package json": file("json/__init__.py", CODE),
    "a package instruct_fmt": together(
        file("instruct_fmt/__init__.py", CODE), file("instruct_fmt/run/worker.py", CODE)
    ),
    "all of them": together(*(file(f"{name}.py", CODE) for name in _NAMES)),
    "pyproject.toml and conftest.py": together(
        file("pyproject.toml", "[tool"), file("conftest.py", CODE), file("setup.py", CODE)
    ),
    ".env and .netrc": together(file(".env", f"{MARK}=x"), file(".netrc", "machine a"), file("python._pth", ".")),
}
