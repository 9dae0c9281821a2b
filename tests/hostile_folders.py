"""Hostile output folders, tokenizer folders, and modules in the current folder.

In: nothing. Out: `cases()`: each is a call of the command line in a folder of the user's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from hostile_case import Case
from hostile_modules import MODULES
from hostile_outputs import OUTPUTS, Output
from hostile_scene import command, with_two_workers
from hostile_tokenizers import TOKENIZERS
from hostile_write import config, together


def cases() -> Iterator[Case]:
    """Outputs; tokenizers, prepared with and looked at; modules, with two workers and without."""
    for name, output in OUTPUTS.items():
        yield _output(name, output, ("prepare", *output.words))
        if output.forced:
            yield _output(f"{name}, --force", output, ("prepare", *output.words, "--force"))
    for name, setup in TOKENIZERS.items():
        for verb in ("prepare", "check"):
            whole = together(setup, config(tokenizer="t", template=None))
            run = partial(command, verb, "c.yaml")
            yield Case("folders", f"tokenizer: {name}, {verb}", "a tokenizer's folder", f"{verb} c.yaml", run, whole)
    for name, setup in MODULES.items():
        tries = "code in the current folder"
        how = "fmt.prepare(dataset, num_proc=2, batch_size=8)"
        yield Case("folders", f"{name} here, two workers", tries, how, with_two_workers, setup, workers=True)
        for verb in ("prepare", "preview", "check"):
            words = (verb, "embedded") + (("-o", "out") if verb == "prepare" else ())
            family = f"modules of the current folder, {verb}"
            run = partial(command, *words)
            yield Case("folders", f"{name} here, {verb}", tries, " ".join(words), run, setup, family=family)


def _output(name: str, output: Output, words: tuple[str, ...]) -> Case:
    how = " ".join(word if len(word) < 60 else word[:60] + "…" for word in words)
    return Case(
        "folders", f"output: {name}", "what lies where the output goes", how, partial(command, *words), output.setup,
        output=output.written, keeps=output.keeps, dangerous=output.dangerous, family=output.family,
    )  # fmt: skip
