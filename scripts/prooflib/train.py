"""Trains the model on a variant's rows, and measures it as it is served.

Needs torch and transformers, nothing of this package, so that it runs where there is a GPU and nothing else.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from prooflib.variant import Variant, order, padded

_FORM = re.compile(r"^#### -?\d[\d.]*$", re.MULTILINE)
WARM_UP = 0.1


@dataclass(frozen=True)
class Settings:
    """How to train and to measure.

    Attributes:
        steps, batch: how many steps, of how many rows.
        rate: the highest learning rate.
        new_tokens: how many tokens a generation may have.
        held: how many held-out rows are generated.
    """

    steps: int = 150
    batch: int = 16
    rate: float = 1e-4
    new_tokens: int = 256
    held: int = 128


@dataclass(frozen=True)
class Run:
    """What was measured of a variant and a seed.

    Attributes:
        loss: the mean loss of a token of held-out answers, behind the prompt that is served.
        stop_loss: that of their stops alone.
        stopped: the share of generations that stop by themselves.
        formed: the share that stop and whose form is right: one line ``#### 42``, the last one.
        wasted: the mean number of tokens behind that line, or all of them where it never comes.
        losses: the training loss of each step.
        seconds: how long it took.
    """

    name: str
    group: str
    seed: int
    loss: float
    stop_loss: float
    stopped: float
    formed: float
    wasted: float
    losses: list[float]
    seconds: float


def load(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer; a folder may hold a GGUF file."""
    gguf = next(iter(sorted(folder.glob("*.gguf"))), None)
    name = {} if gguf is None else {"gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **name)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    return model, tokenizer


def run(variant: Variant, seed: int, model: Any, tokenizer: Any, settings: Settings, device: str) -> Run:
    """Train a copy of the model from where it is, and measure it."""
    begun = time.perf_counter()
    torch.manual_seed(seed)
    model.to(device).train()
    model.config.use_cache = False
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rate, weight_decay=0.0)
    places = order(len(variant.ids), settings.steps * settings.batch, seed)
    losses = []
    for step in range(settings.steps):
        chosen = places[step * settings.batch : (step + 1) * settings.batch]
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * _schedule(step, settings.steps)
        rows, labels = [variant.ids[place] for place in chosen], [variant.labels[place] for place in chosen]
        loss = _losses(model, rows, labels, device).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    model.eval()
    with torch.no_grad():
        held = slice(0, settings.held)
        loss, stop_loss = _held_out(model, variant.prompts[held], variant.answers[held], device)
        texts, lengths, stopped = _generated(model, variant, tokenizer, settings, device)
    formed = [bool(stop and _is_formed(text)) for text, stop in zip(texts, stopped, strict=True)]
    wasted = [size - _needed(text, tokenizer, size) for text, size in zip(texts, lengths, strict=True)]
    return Run(
        variant.name,
        variant.group,
        seed,
        loss,
        stop_loss,
        sum(stopped) / len(stopped),
        sum(formed) / len(formed),
        sum(wasted) / len(wasted),
        losses,
        time.perf_counter() - begun,
    )


def _schedule(step: int, steps: int) -> float:
    """Up in a line, then down like a cosine."""
    warm = max(1, int(WARM_UP * steps))
    return (step + 1) / warm if step < warm else 0.5 + 0.5 * math.cos(math.pi * (step - warm) / (steps - warm))


def _losses(model: Any, rows: list[list[int]], labels: list[list[int]], device: str) -> torch.Tensor:
    """The loss of each trained token of a batch."""
    ids = torch.from_numpy(padded(rows, 0)).to(device)
    wanted = torch.from_numpy(padded(labels, -100)).to(device)
    mask = torch.from_numpy(padded([[1] * len(row) for row in rows], 0)).to(device)
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    wanted = wanted[:, 1:]
    kept = wanted != -100
    return torch.nn.functional.cross_entropy(logits[kept].float(), wanted[kept], reduction="none")


def _held_out(model: Any, prompts: list[list[int]], answers: list[list[int]], device: str) -> tuple[float, float]:
    """The mean loss of the answers' tokens, and of their stops."""
    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    all_labels = [[*[-100] * len(prompt), *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    stop_labels = [[*[-100] * (len(row) - 1), row[-1]] for row in rows]
    found = []
    for labels in (all_labels, stop_labels):
        parts = [_losses(model, rows[at : at + 16], labels[at : at + 16], device) for at in range(0, len(rows), 16)]
        found.append(float(torch.cat(parts).mean()))
    return found[0], found[1]


def _generated(
    model: Any, variant: Variant, tokenizer: Any, settings: Settings, device: str
) -> tuple[list[str], list[int], list[bool]]:
    """Greedy generations for the held-out prompts: texts, numbers of tokens without the stop, whether they stop."""
    prompts = variant.prompts[: settings.held]
    stop = variant.answers[0][-1]
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        made = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=settings.new_tokens,
            do_sample=False,
            eos_token_id=stop,
            pad_token_id=stop,
            use_cache=True,
        )
    texts, lengths, stopped = [], [], []
    for row in made[:, longest:].tolist():
        stopped.append(stop in row)
        own = row[: row.index(stop)] if stop in row else row
        lengths.append(len(own))
        texts.append(tokenizer.decode(own))
    return texts, lengths, stopped


def _is_formed(text: str) -> bool:
    """Whether a text ends in the only line that says the result."""
    found = list(_FORM.finditer(text))
    return len(found) == 1 and found[0].end() == len(text)


def _needed(text: str, tokenizer: Any, size: int) -> int:
    """How many tokens the answer has up to its first line that says the result; none where there is no such line."""
    found = _FORM.search(text)
    if found is None:
        return 0
    return min(size, len(tokenizer(text[: found.end()], add_special_tokens=False)["input_ids"]))


def as_json(found: Run) -> dict[str, Any]:
    """For a file."""
    return asdict(found)
