"""A run as a configuration says it.

In: the path of a configuration, or what it would hold. Out: a `Prepared`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instruct_fmt.run.config.load import load
from instruct_fmt.run.open import open_sources, options_of
from instruct_fmt.run.prepare import Prepared, prepare_sources

if TYPE_CHECKING:
    from instruct_fmt.run.config.schema import Config

__all__ = ["prepare_config", "run_config"]


def prepare_config(
    config: str | os.PathLike[str] | Mapping[str, Any],
    settings: Sequence[str] = (),
    *,
    output_dir: str | os.PathLike[str] | None = None,
    num_proc: int | None = None,
    progress: bool = True,
    reuse: bool = True,
    verify: bool = False,
) -> Prepared:
    """Encode the datasets of a configuration; a result that still holds is opened instead of made again.

    Args:
        config: path of a YAML file, ``embedded``, or what such a file would hold; paths in it start from its folder,
            or from the current one.
        settings: changes such as ``max_length=512`` or ``datasets.0.weight=2``.
        output_dir: the folder of the result, in place of the configuration's.
        num_proc: worker processes, in place of the configuration's.
        progress: whether to show a progress bar.
        reuse: whether an earlier result that still holds is taken.
        verify: whether the content of an earlier result is compared with its checksums.

    Raises:
        ConfigError: what does not fit in the configuration.
        InstructFmtError: as `instruct_fmt.run.prepare.prepare`.

    >>> prepared = prepare_config({"tokenizer": "embedded", "datasets": ["embedded"], "validation": 5}, progress=False)
    >>> prepared.splits.num_rows
    {'train': 56, 'validation': 5}
    """
    given = config if isinstance(config, Mapping) else os.fspath(config)
    changes = [*settings, *([] if num_proc is None else [f"num_proc={num_proc}"])]
    base = Path() if isinstance(given, Mapping) else Path(given).parent
    found = load(given, changes)
    if output_dir is not None:
        output = found.output.model_copy(update={"path": os.fspath(output_dir)})
        found = found.model_copy(update={"output": output})
    return run_config(found, base, progress=progress, reuse=reuse, verify=verify)


def run_config(config: Config, base: Path, *, progress: bool, reuse: bool, verify: bool) -> Prepared:
    """The same for a configuration that was read; `base` is the folder of its file."""
    options = dataclasses.replace(options_of(config), progress=progress, reuse=reuse, verify=verify)
    return prepare_sources(open_sources(config, base), options)
