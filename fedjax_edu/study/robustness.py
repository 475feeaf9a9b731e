"""Schools that lie: rules of aggregation against attacks on STAR, beside what each rule costs when nobody lies."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fedjax_edu import aggregation
from fedjax_edu.aggregation import attacks
from fedjax_edu.core.errors import ArgumentError, require
from fedjax_edu.core.link import Link
from fedjax_edu.data import Population, Task, flip_labels
from fedjax_edu.data.studies import study_of
from fedjax_edu.study.algorithms import splits
from fedjax_edu.study.config import Config, SchoolsConfig
from fedjax_edu.study.console import Printer, standard_output
from fedjax_edu.study.estimates import Estimate, scores
from fedjax_edu.study.provenance import versions
from fedjax_edu.study.report import with_interval
from fedjax_edu.study.results import collect
from fedjax_edu.study.run_folder import RunFolder
from fedjax_edu.study.schools import FOLDS, SchoolData
from fedjax_edu.study.tables import Table, counted
from fedjax_edu.study.task_run import TaskRun
from fedjax_edu.study.training import Trained, Trainer

STUDY = "star"
EVERYBODY = 1_000_000  # a cohort larger than any federation here
LEAST = -1.0  # below this R², how far below says nothing


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobustnessConfig(Config):
    """What is attacked and how.

    Attributes:
        schools: how STAR's schools are trained; every one takes part in every round, whatever the cohort.
        attackers: share of schools that lie.
        gaussian_std: standard deviation of the noise that replaces an update.
        ipm_scale: how far inner product manipulation goes against the mean.
        radius: of centered clipping, in the units of an update.
    """

    schools: SchoolsConfig
    attackers: float
    gaussian_std: float
    ipm_scale: float
    radius: float


@dataclasses.dataclass(frozen=True)
class Setting:
    """A federation under attack.

    Attributes:
        population: honest.
        liars: ids of those who lie.
        root: id of the honest school that the server trusts, for FLTrust.
        config: sizes of attacks and rules.
        tasks: what is predicted.
    """

    population: Population
    liars: np.ndarray
    root: int
    config: RobustnessConfig
    tasks: tuple[Task, ...]

    @property
    def clients(self) -> int:
        """How many schools take part."""
        return self.population.num_clients


RULES: dict[str, Callable[[Setting], Link]] = {
    "mean": lambda setting: aggregation.mean(),
    "median": lambda setting: aggregation.median(),
    "trimmed mean": lambda setting: aggregation.trimmed_mean(len(setting.liars) / setting.clients),
    "Krum": lambda setting: aggregation.krum(len(setting.liars)),
    "multi-Krum": lambda setting: aggregation.multi_krum(len(setting.liars), keep=setting.clients - 2 * len(setting.liars)),
    "geometric median": lambda setting: aggregation.geometric_median(),
    "centered clipping": lambda setting: aggregation.centered_clip(setting.config.radius),
    "centered clipping, buckets of 2": lambda setting: aggregation.centered_clip(setting.config.radius, bucket_size=2),
    "FLTrust": lambda setting: aggregation.fltrust(setting.root),
}


def _flipped(setting: Setting) -> Population:
    """The liars' scores with the opposite sign, and who leaves and who stays exchanged."""
    binary = np.array([task.binary for task in setting.tasks])
    return flip_labels(setting.population, setting.liars, "targets", lambda targets: np.where(binary, 1 - targets, -targets))


# Each names the links that lie and the population that trains.
ATTACKS: dict[str, Callable[[Setting], tuple[tuple[Link, ...], Population]]] = {
    "nobody lies": lambda setting: ((), setting.population),
    "label flip": lambda setting: ((), _flipped(setting)),
    "sign flip": lambda setting: ((attacks.sign_flip(setting.liars),), setting.population),
    "Gaussian": lambda setting: ((attacks.gaussian(setting.liars, setting.config.gaussian_std),), setting.population),
    "model replacement": lambda setting: (
        (attacks.model_replacement(setting.liars, setting.clients / len(setting.liars)),),
        _flipped(setting),
    ),
    "ALIE": lambda setting: ((attacks.alie(setting.liars),), setting.population),
    "IPM": lambda setting: ((attacks.ipm(setting.liars, setting.config.ipm_scale),), setting.population),
}


def run_robustness(
    config: RobustnessConfig, workdir: str | os.PathLike[str], *, seeds: int = 3, folds: int = FOLDS, console: Printer | None = None
) -> dict[str, dict[str, dict[str, Estimate]]]:
    """Trains STAR's schools under every attack with every rule.

    Args:
        config: the attack and the training.
        workdir: receives ``robustness.json``, ``robustness.md``, ``config.json`` and ``versions.json``.
        seeds: how many, from the configuration's own upwards; each draws its liars anew.
        folds: how many of the five, from the first.
        console: where progress and the table go; None is standard output.

    Returns:
        ``{task: {rule: {attack: Estimate}}}`` for the tasks of STAR, scores of held-out schools.

    Raises:
        ArgumentError: seeds or folds out of range, a share of attackers outside (0, .5), or a folder that cannot be written.
    """
    require("the school study", "study", "matplotlib", "pandas", "sklearn")
    if not 0 < config.attackers < 0.5:
        raise ArgumentError("attackers", config.attackers, "use a share between 0 and one half")
    folder, console = RunFolder(workdir), console or standard_output()
    folder.write_json("config.json", config)
    folder.write_json("versions.json", versions())
    runs: list[tuple[TaskRun, ...]] = []
    fold_of_run = []
    for data, schools in splits(config.schools, seeds=seeds, folds=folds):
        outputs = {}
        for rule in RULES:
            for attack in ATTACKS:
                outputs[_name(rule, attack)] = attacked(data, dataclasses.replace(config, schools=schools), rule, attack)
            console.print(f"fold {schools.fold}, seed {schools.seed}: {rule}", highlight=False)
        runs.append(collect(data, data.held_out, outputs))
        fold_of_run.append(schools.fold)
    found = {
        task.name: _by_rule(scores([run[position] for run in runs], fold_of_run, list(runs[0][position].models)))
        for position, task in enumerate(one.task for one in runs[0])
        if task.study == STUDY
    }
    folder.write_json("robustness.json", found)
    text = _markdown(found, [one.task for one in runs[0]], config, seeds, folds)
    folder.write_text("robustness.md", text)
    console.print(text, highlight=False)
    return found


def attacked(data: SchoolData, config: RobustnessConfig, rule: str, attack: str) -> np.ndarray:
    """Predictions for held-out schools of STAR's federation under an attack, [rows, tasks] in raw units.

    Args:
        data: the split; its training schools of STAR take part.
        config: how they train, and who lies.
        rule: a key of :data:`RULES`.
        attack: a key of :data:`ATTACKS`.
    """
    trainer = Trainer(data, dataclasses.replace(config.schools, cohort=EVERYBODY))
    train = trainer.rows(data.train)
    honest = train.select(np.flatnonzero([study_of(id_) == STUDY for id_ in train.ids.tolist()]))
    setting = _setting(honest, config, data.tasks)
    lies, population = ATTACKS[attack](setting)
    engine, state = trainer.federation(population, aggregation.chain(*lies, RULES[rule](setting)))
    state, _ = engine.run(state, rounds=config.schools.rounds)
    return data.encoding.decode(Trained(engine, state, trainer).outputs(data.held_out))


def _setting(population: Population, config: RobustnessConfig, tasks: tuple[Task, ...]) -> Setting:
    """Draws the liars; the server trusts the largest honest school."""
    number = max(1, round(config.attackers * population.num_clients))
    liars = np.random.default_rng(config.schools.seed).permutation(population.num_clients)[:number]
    honest = np.setdiff1d(np.arange(population.num_clients), liars)
    root = honest[np.argmax(population.sizes[honest])]
    return Setting(population, np.sort(population.ids[liars]), int(population.ids[root]), config, tasks)


def _name(rule: str, attack: str) -> str:
    return f"{rule} / {attack}"


def _by_rule(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, Estimate]]:
    return {rule: {attack: estimates[_name(rule, attack)] for attack in ATTACKS} for rule in RULES}


def _markdown(
    found: Mapping[str, Mapping[str, Mapping[str, Estimate]]], tasks: Sequence[Task], config: RobustnessConfig, seeds: int, folds: int
) -> str:
    text = (
        f"{config.attackers:.0%} of STAR's training schools lie. Scores of held-out schools after {config.schools.rounds} rounds, "
        f"mean over {counted(folds, 'fold')} and {counted(seeds, 'seed')} [95 % over schools].\n"
    )
    for task in tasks:
        if task.name in found:
            rows = [[rule, *map(_cell, of_rule.values())] for rule, of_rule in found[task.name].items()]
            text += f"\n{task.title} ({task.metric.replace('R2', 'R²')})\n\n{Table('', ['rule', *ATTACKS], rows).markdown()}"
    return text


def _cell(estimate: Estimate) -> str:
    return f"below {LEAST:.0f}" if estimate.mean < LEAST else with_interval(estimate)
