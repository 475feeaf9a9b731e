"""Learning curve and per-school comparison as PNG files."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_edu.data import Task
from fedjax_edu.study.federation import History
from fedjax_edu.study.metrics import MIN_ROWS
from fedjax_edu.study.report import number, share
from fedjax_edu.study.results import MODELS, Predictions, Result

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#F0E442")  # Okabe and Ito's
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "legend.frameon": False,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
}
GREY, TEXT = "#8a8a8a", "#444444"


def learning_curve(path: Path, history: History, result: Result) -> None:
    """Training loss by round, and held-out scores by round against ridge on pooled rows.

    Args:
        path: of the PNG.
        history: of the federation.
        result: for the level of ridge; left out where the run has none.
    """
    with _figure(path, columns=2, width=11, height=4.4) as (_, (left, right)):
        rounds = np.array([record["round"] for record in history.rounds])
        scored = [last for last, _ in history.curve]
        for number_, task in enumerate(result.compared):
            colour = COLOURS[number_ % len(COLOURS)]
            losses = np.array([record["losses"][task.name] for record in history.rounds], float)
            left.plot(rounds, losses, color=colour, alpha=0.25, linewidth=0.8)
            left.plot(rounds, _smooth(losses), color=colour, linewidth=1.8, label=task.title)
            right.plot(scored, [scores[task.name] for _, scores in history.curve], color=colour, linewidth=1.8)
            if "ridge" in (models := result.tasks[task.name].held_out):
                right.axhline(models["ridge"].score, color=colour, linewidth=1.2, linestyle=":")
        left.set_title("Training loss of the cohort")
        left.set(xlabel="round", ylabel="half squared error; cross-entropy (leaving)", xlim=(0, None), ylim=(0, None))
        left.legend()
        right.set_title("Held-out schools; dotted: ridge on pooled rows")
        right.set(xlabel="round", ylabel="R²; AUC (leaving)", xlim=(0, None), ylim=(0, 0.85))


def schools(path: Path, held_out: Sequence[Predictions], within: Sequence[Predictions], result: Result) -> None:
    """One panel a task, one point a school: the federated model against the local-only one where schools have enough test rows.

    Where no school has enough rows within, held-out schools are shown: the federated model against pooled ridge.
    """
    with _figure(path, columns=len(held_out), width=3.6 * len(held_out), height=4.2) as (figure, axes):
        for axis, task, outside, inside in zip(axes, result.compared, held_out, within, strict=True):
            local = result.tasks[task.name].local_only
            comparison = result.tasks[task.name].federated_at_least_local
            axis.set_title(task.title)
            if local is not None and comparison is not None and comparison.schools:
                _scatter(axis, task, inside, local, f"other pupils of training schools\nfederated at least as good: {share(comparison)}")
            elif "ridge" in outside.models:
                _scatter(axis, task, outside, "ridge", "held-out schools")
            else:
                axis.set_axis_off()
        figure.suptitle(f"A point is a school with at least {MIN_ROWS} test rows; above the line the federated model is better there")


def _scatter(axis: Any, task: Task, predictions: Predictions, other: str, note: str) -> None:
    first, second = predictions.by_school("federated"), predictions.by_school(other)
    common = sorted(first.keys() & second.keys())
    x, y = np.array([second[school] for school in common]), np.array([first[school] for school in common])
    both = np.concatenate([x, y])
    low, high = float(np.quantile(both, 0.04)) - 0.04, float(both.max()) + 0.04
    axis.plot([low, high], [low, high], color=GREY, linewidth=1)
    axis.scatter(np.maximum(x, low), np.maximum(y, low), s=26, color=COLOURS[0], alpha=0.75, linewidth=0, clip_on=False, zorder=3)
    name = task.metric.replace("R2", "R²")
    axis.set(xlim=(low, high), ylim=(low, high), aspect="equal", xlabel=f"{MODELS[other]}, {name}", ylabel=f"federated, {name}")
    lines = [note, f"mean {number(y.mean())} against {number(x.mean())}"]
    if (outside := int(((x < low) | (y < low)).sum())) > 0:
        lines.append(f"{outside} further down, drawn at the edge")
    axis.text(0.97, 0.03, "\n".join(lines), transform=axis.transAxes, ha="right", va="bottom", fontsize=8, color=TEXT)


def _smooth(values: np.ndarray, window: int = 9) -> np.ndarray:
    """Running mean that ignores rounds without a value and shortens at both ends."""
    kernel = np.ones(min(window, len(values)))
    seen = np.isfinite(values)
    count = np.convolve(seen, kernel, mode="same")
    return np.convolve(np.where(seen, values, 0.0), kernel, mode="same") / np.maximum(count, 1)


@contextlib.contextmanager
def _figure(path: Path, columns: int, width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """A figure with one row of axes, written to `path` at the end."""
    import matplotlib as mpl
    from matplotlib.figure import Figure  # without pyplot there is no window, no global figure, no backend to choose

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        yield figure, figure.subplots(1, columns, squeeze=False)[0]
        figure.savefig(path)
