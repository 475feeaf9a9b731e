"""What is drawn of a run: learning curve, schools one by one, reliability."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_edu.data import Task
from fedjax_edu.study.calibration import CalibrationReport
from fedjax_edu.study.figures import COLOURS, GREY, ONE_COLUMN, SMALL, TEXT, TWO_COLUMNS, figure, line_style
from fedjax_edu.study.metrics import MIN_ROWS
from fedjax_edu.study.records import History
from fedjax_edu.study.report import share
from fedjax_edu.study.results import MODELS, Result
from fedjax_edu.study.tables import number
from fedjax_edu.study.task_run import TaskRun

_LINE = 1.25 * SMALL  # points from one line of small print to the next


def learning_curve(path: Path, history: History, result: Result) -> None:
    """Training loss by round, and held-out scores by round against ridge on pooled rows.

    Args:
        path: of the PNG.
        history: of the federation.
        result: for the level of ridge; left out where the run has none.
    """
    with figure(path, height=3.1, columns=2) as (drawn, axes):
        left, right = axes[0]
        rounds = np.array([record["round"] for record in history.rounds])
        scored, lines = [last for last, _ in history.curve], []
        for position, task in enumerate(result.compared):
            style = line_style(position)
            losses = np.array([record["losses"][task.name] for record in history.rounds], float)
            left.plot(rounds, losses, alpha=0.25, linewidth=0.6, color=style["color"])
            lines += left.plot(rounds, _smooth(losses), label=task.title, **style)
            right.plot(scored, [scores[task.name] for _, scores in history.curve], **style)
            if "ridge" in (models := result.tasks[task.name].held_out):
                right.axhline(models["ridge"].score, color=style["color"], linewidth=0.9, linestyle=":")
        left.set_title("Training loss of the cohort")
        left.set(xlabel="round", ylabel="half squared error or cross-entropy", xlim=(0, None), ylim=(0, None))
        right.set_title("Held-out schools; dotted: ridge, pooled rows")
        right.set(xlabel="round", ylabel="R² or AUC", xlim=(0, None), ylim=_limits(right))
        titles = [task.title for task in result.compared]  # named, or those with a leading underscore would be left out
        drawn.legend(lines, titles, loc="outside lower center", ncols=4)


def _limits(axis: Any) -> tuple[float, float]:
    """0 to .9, or further where a line goes there, down to -1."""
    heights = np.concatenate([np.asarray(line.get_ydata(), float) for line in axis.lines])
    heights = heights[np.isfinite(heights)]
    return max(-1.0, min(0.0, *heights - 0.02)), max(0.9, *heights + 0.02)


def schools(path: Path, held_out: Sequence[TaskRun], within: Sequence[TaskRun], result: Result) -> None:
    """One panel a task, one point a school: the federated model against the local-only one where schools have enough test rows.

    Where no school has enough rows within, held-out schools are shown: the federated model against pooled ridge.
    """
    columns = min(3, max(2, math.ceil(math.sqrt(len(held_out)))))
    rows = math.ceil(len(held_out) / columns)
    with figure(path, height=0.3 + rows * (TWO_COLUMNS / columns + 0.5), rows=rows, columns=columns) as (drawn, axes):
        for axis in axes.flat[len(held_out) :]:
            axis.set_axis_off()
        for axis, task, outside, inside in zip(axes.flat, result.compared, held_out, within, strict=False):
            local = result.tasks[task.name].local_only
            comparison = result.tasks[task.name].federated_at_least_local
            if local is not None and comparison is not None and comparison.schools:
                _scatter(axis, task, inside, local, ["other pupils of training schools", f"at least as good: {share(comparison)}"])
            else:
                _scatter(axis, task, outside, "ridge", ["held-out schools"])
        drawn.suptitle(f"A point is a school with at least {MIN_ROWS} test rows; above the line the federated model is better there")


def reliability(path: Path, report: CalibrationReport, task: str, titles: Mapping[str, str] = MODELS) -> None:
    """Mean target against mean prediction in bins of about equally many rows, with the number of rows of each bin below.

    Args:
        path: of the PNG.
        report: from :func:`fedjax_edu.study.calibration.measure_calibration`.
        task: which.
        titles: how the legend calls models.
    """
    with figure(path, width=ONE_COLUMN, height=3.8, rows=2, sharex=True, height_ratios=(3, 1)) as (drawn, axes):
        curve, counts = axes[:, 0]
        for position, (model, bins) in enumerate(report.reliability[task].items()):
            style = line_style(position)
            curve.plot(bins.predicted, bins.observed, marker="o", markersize=3, label=titles.get(model, model), **style)
            counts.plot(bins.predicted, bins.count, marker="o", markersize=3, **style)
        ends = curve.get_xlim()
        curve.plot(ends, ends, color=GREY, linewidth=0.8, zorder=1)
        curve.set_title(report.tasks[task].title)
        curve.set(ylabel="mean target")
        counts.set(xlabel="mean prediction", ylabel="rows", ylim=(0, None))
        drawn.legend(loc="outside lower center", ncols=2)


def _scatter(axis: Any, task: Task, predictions: TaskRun, other: str, lines: list[str]) -> None:
    """A panel with its small print between title and points, where nothing is drawn."""
    scores = [predictions.by_school(model) if model in predictions.models else {} for model in (other, "federated")]
    common = sorted(scores[0].keys() & scores[1].keys())
    if not common:
        axis.set_axis_off()
        return
    x, y = (np.array([of_model[school] for school in common]) for of_model in scores)
    both = np.concatenate([x, y])
    low, high = float(np.quantile(both, 0.04)) - 0.04, float(both.max()) + 0.04
    axis.plot([low, high], [low, high], color=GREY, linewidth=0.8)
    axis.scatter(np.maximum(x, low), np.maximum(y, low), s=12, color=COLOURS[0], alpha=0.75, linewidth=0, clip_on=False, zorder=3)
    name = task.metric.replace("R2", "R²")
    axis.set(xlim=(low, high), ylim=(low, high), aspect="equal", xlabel=f"{MODELS[other]}, {name}", ylabel=f"federated, {name}")
    lines = [*lines, f"mean {number(y.mean())} against {number(x.mean())}"]
    if (outside := int(((x < low) | (y < low)).sum())) > 0:
        lines.append(f"{outside} further down, drawn at the edge")
    small = {"fontsize": SMALL, "color": TEXT, "va": "bottom", "linespacing": 1.1}
    axis.annotate("\n".join(lines), (0, 1), xycoords="axes fraction", xytext=(0, 3), textcoords="offset points", **small)
    axis.set_title(task.title, pad=4 + _LINE * len(lines))


def _smooth(values: np.ndarray, window: int = 9) -> np.ndarray:
    """Running mean that ignores rounds without a value and shortens at both ends."""
    kernel = np.ones(min(window, len(values)))
    seen = np.isfinite(values)
    count = np.convolve(seen, kernel, mode="same")
    return np.convolve(np.where(seen, values, 0.0), kernel, mode="same") / np.maximum(count, 1)
