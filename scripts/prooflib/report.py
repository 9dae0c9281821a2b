"""The table and the plot of the proof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

Measured = Sequence[dict[str, Any]]
_COLUMNS = (
    ("loss", "held-out loss", "{:.3f}"),
    ("stop_loss", "loss of the stop", "{:.3f}"),
    ("stopped", "stop by themselves", "{:.0%}"),
    ("formed", "right form", "{:.0%}"),
    ("wasted", "tokens wasted", "{:.0f}"),
)


def groups(runs: Measured) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Runs by group and variant, in their order."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for run in runs:
        found.setdefault(run["group"], {}).setdefault(run["name"], []).append(run)
    return found


def table(runs: Measured) -> str:
    """Markdown: the mean of each variant's seeds, and their range."""
    heads = " | ".join(head for _, head, _ in _COLUMNS)
    lines = [f"| served with | rows | {heads} |", "|" + "---|" * (len(_COLUMNS) + 2)]
    for group, variants in groups(runs).items():
        for name, seeds in variants.items():
            cells = [_cell([run[key] for run in seeds], form) for key, _, form in _COLUMNS]
            lines.append(f"| {group} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: list[float], form: str) -> str:
    low, high = form.format(min(values)), form.format(max(values))
    middle = form.format(mean(values))
    return middle if low == high else f"{middle} ({low}–{high})"


def plot(runs: Measured, path: Path) -> None:
    """Bars for each variant, with the range of its seeds."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names, rows = [], []
    for group, variants in groups(runs).items():
        for name, seeds in variants.items():
            names.append(f"{name}\n({group})" if name.startswith("prepared") else name)
            rows.append(seeds)
    shown = [column for column in _COLUMNS if column[0] != "stop_loss"]
    figure, axes = plt.subplots(1, len(shown), figsize=(16, 0.45 * len(names) + 1.5), sharey=True)
    places = list(range(len(names)))[::-1]
    for axis, (key, head, _) in zip(axes, shown, strict=True):
        values = [[run[key] for run in seeds] for seeds in rows]
        colours = ["#2a7a3f" if name.startswith("prepared") else "#b9553b" for name in names]
        middle = [mean(of_seeds) for of_seeds in values]
        spread = [
            [m - min(v) for m, v in zip(middle, values, strict=True)],
            [max(v) - m for m, v in zip(middle, values, strict=True)],
        ]
        axis.barh(places, middle, color=colours, xerr=spread, ecolor="#444444", capsize=2)
        axis.set_title(head, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(places, names, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
