"""What a study trains in every fold with every seed: the federation that the others are compared with, and those beside it."""

import dataclasses
import gc
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax
from rich.rule import Rule

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.data import Population
from fedjax_edu.data.standardiser import schema_of
from fedjax_edu.study.choice import make_algorithm
from fedjax_edu.study.config import SchoolsConfig
from fedjax_edu.study.console import Printer
from fedjax_edu.study.results import MODELS, Result, with_row
from fedjax_edu.study.school_run import run_schools
from fedjax_edu.study.schools import population_of, split


class Federations:
    """The federations of a study, ready to run.

    Args:
        main: the federation with everything that it is compared with.
        beside: further federations by the name of their row, see :class:`fedjax_edu.study.StudyConfig`.
        population: of all of them; None loads the studies that each names.

    Raises:
        ArgumentError: a row named like a model that there is, without a federation, with a task twice, or with one that the main
            federation does not have.
        ConfigError: a task without an entry, an unknown algorithm or arguments that are not its own.
    """

    def __init__(self, main: SchoolsConfig, beside: Mapping[str, Sequence[SchoolsConfig]], population: Population | None):
        if taken := sorted(beside.keys() & {*MODELS, *MODELS.values()}):
            raise ArgumentError("beside", taken[0], f"name the row otherwise than {', '.join(MODELS.values())}")
        if empty := [name for name, configs in beside.items() if isinstance(configs, SchoolsConfig) or not configs]:
            raise ArgumentError("beside", empty[0], "give the row a list of one federation or more")
        self.main = main
        self.beside = {name: tuple(configs) for name, configs in beside.items()}
        self._populations: dict[tuple[str, ...], Population] = {}
        for config in (main, *itertools.chain.from_iterable(self.beside.values())):
            if (studies := tuple(config.studies)) not in self._populations:
                self._populations[studies] = population_of(config) if population is None else population
            config.of_tasks(schema_of(self._populations[studies]).tasks)
            make_algorithm(lambda *_: 0.0, config.federated, config.rounds)  # for what it refuses
        for name, configs in self.beside.items():
            self._check_tasks(name, configs)
        endings = [f"{name} {number}" for name, configs in self.beside.items() for number in range(1, len(configs) + 1)]
        self._endings = dict(zip(endings, file_names(endings).values(), strict=True))

    def _check_tasks(self, name: str, configs: Sequence[SchoolsConfig]) -> None:
        """What a row predicts, the main federation does too, and each task once."""
        of = {studies: [task.name for task in schema_of(population).tasks] for studies, population in self._populations.items()}
        found = [task for config in configs for task in of[tuple(config.studies)]]
        if repeated := sorted({task for task in found if found.count(task) > 1}):
            raise ArgumentError(f"beside.{name}", f"{repeated[0]} in two federations", "let one of them have the task")
        if strange := sorted(set(found) - set(of[tuple(self.main.studies)])):
            raise ArgumentError(f"beside.{name}", strange[0], "name tasks that the main federation has")

    @property
    def population(self) -> Population:
        """Of the federation that the others are compared with."""
        return self._populations[tuple(self.main.studies)]

    def check(self, fold: int, seed: int) -> None:
        """Splits as the runs will; arguments and errors of :func:`fedjax_edu.study.prepare`."""
        for population in self._populations.values():
            split(population, fold, seed, validation=self.main.validation)

    def run(self, fold: int, seed: int, workdir: Path, console: Printer) -> Result:
        """Runs all of one fold and seed, each in its folder.

        Args:
            fold: that is held out.
            seed: of all of them.
            workdir: holds ``fold1-seed0``, and ``fold1-seed0-NAME-1`` and so on of a row.
            console: where progress and tables go.

        Returns:
            Of the main one, with the predictions of the others.
        """
        result = self._trained(self.main, fold, seed, workdir, "", console)
        for name, configs in self.beside.items():
            endings = [self._endings[f"{name} {number}"] for number in range(1, len(configs) + 1)]
            others = [self._trained(config, fold, seed, workdir, f"-{one}", console) for config, one in zip(configs, endings, strict=True)]
            result = with_row(result, name, others)
        return result

    def _trained(self, config: SchoolsConfig, fold: int, seed: int, workdir: Path, ending: str, console: Printer) -> Result:
        console.print(Rule(f"fold {fold}, seed {seed}{ending.replace('-', ' ')}"))
        run = dataclasses.replace(config, fold=fold, seed=seed, validation=self.main.validation)
        result = run_schools(run, workdir / f"fold{fold}-seed{seed}{ending}", console, population=self._populations[tuple(config.studies)])
        gc.collect()  # engines, which hold their programs
        jax.clear_caches()  # compiled programs take memory maps, of which Linux gives a process 65,530; a study would take more
        return result


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Names of tasks or models as parts of names of files: short, of letters and digits, each another one.

    >>> file_names(["star.math", "a/b", "a b"])
    {'star.math': 'star-math', 'a/b': 'a-b', 'a b': 'a-b-2'}
    """
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^\w-]+", "-", name)[:60]
        candidates = itertools.chain([plain], (f"{plain}-{number}" for number in itertools.count(2)))
        found[name] = next(one for one in candidates if one not in found.values())
    return found
