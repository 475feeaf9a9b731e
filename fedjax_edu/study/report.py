"""Results as tables for people."""

import math

from rich.markup import escape
from rich.table import Table

from fedjax_edu.data import Task
from fedjax_edu.study.console import Printer
from fedjax_edu.study.estimates import Estimate
from fedjax_edu.study.metrics import MIN_ROWS, Comparison
from fedjax_edu.study.results import MODELS, TESTS, Result, Score, TaskResult
from fedjax_edu.study.tables import number as number

DIVERGED = "Predictions of the federated model are no finite numbers: training diverged. Lower its rates, or clip gradients."


def show(result: Result, console: Printer) -> None:
    """Prints a table for each task, and what the federation cost."""
    for task in result.compared:
        console.print(task_table(task, result.tasks[task.name]))
        if (sentence := against_local(result.tasks[task.name])) is not None:
            console.print(sentence, highlight=False)
    if (overall := result.federated_at_least_local) is not None and overall.schools:
        means = f"at least as good as local-only in {share(overall)} of {overall.schools} schools"
        console.print(f"\nOver a school's tasks together: federated {means}.", highlight=False)
    if not result.finite:
        console.print(f"\n[bold red]{DIVERGED}[/]", highlight=False)
    up, down = result.bytes_up / 1e6, result.bytes_down / 1e6
    console.print(
        f"\n{result.rounds} rounds, {up:,.1f} MB sent by schools, {down:,.1f} MB received; fold {result.fold}, seed {result.seed}."
    )


def task_table(task: Task, result: TaskResult) -> Table:
    """Rows are models; columns are the score over all rows and the one that a tenth of the schools stay below, on either test."""
    table = Table(title=f"\n{escape(task.title)} ({task.metric.replace('R2', 'R²')})", title_justify="left", title_style="bold")
    table.add_column("model", min_width=20)
    for title in ("held out", "within"):
        table.add_column(title, justify="right")
        table.add_column("10 % quantile", justify="right")
    for model, title in MODELS.items():
        scores = [getattr(result, test).get(model) for test in TESTS]
        if any(score is not None for score in scores):
            cells = [text for score in scores for text in _cells(score)]
            table.add_row(title, *cells, style="bold" if model == "federated" else "")
    return table


def against_local(result: TaskResult) -> str | None:
    """One sentence: in how many schools the federated model is at least as good as the school alone; None without a local model."""
    comparison = result.federated_at_least_local
    if comparison is None:
        return None
    if not math.isfinite(result.within["federated"].score):
        return None
    if comparison.schools == 0:
        return f"No school has {MIN_ROWS} rows in the within-school test: schools are not compared one by one."
    return f"Federated at least as good as {MODELS[result.local_only or '']} in {share(comparison)} of {comparison.schools} schools."


def share(comparison: Comparison) -> str:
    """The share of schools with its interval, in per cent."""
    low, high = comparison.wins_interval.low, comparison.wins_interval.high
    return f"{comparison.wins:.0%} [{low:.0%}, {high:.0%}]"


def with_interval(estimate: Estimate) -> str:
    """The mean and its 95 % interval; without a mean, one run at least ended in numbers that are not finite."""
    if math.isnan(estimate.mean):
        return "diverged"
    return f"{number(estimate.mean)} [{number(estimate.interval.low)}, {number(estimate.interval.high)}]"


def _cells(score: Score | None) -> tuple[str, str]:
    return ("–", "–") if score is None else (number(score.score), number(score.tenth_quantile))
