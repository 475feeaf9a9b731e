"""Trains a federation of schools: ``python -m experiments.train --config=experiments/configs/m3t.py``, or on your own table:
``python -m experiments.train --csv=students.csv --client=school_id --task=passed:binary --task=score:regression``.

Any field can be set on the command line (``--config.rounds=50``). Results go to ``--workdir``; the same command goes on there.
"""

from absl import flags
from rich.console import Console

import fedjax_edu as fe
from experiments import program, tables
from experiments.program import run, run_folder

_WORKDIR = flags.DEFINE_string("workdir", None, "The run folder, in which an ended run goes on; runs/CONFIG unless given.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Remove what WORKDIR has of another run, or of this one, and begin anew.")
_CONSOLE = flags.DEFINE_enum("console", "progress", ["progress", "quiet", "json"], "What is printed; WORKDIR/log.txt has it all.")
_TRACKERS = flags.DEFINE_list("trackers", [], f"Where else records of rounds go: {', '.join(fe.study.TRACKERS)}.")
_PROFILE = flags.DEFINE_bool("profile", False, "First trace three rounds into WORKDIR/profile and say where their time goes.")

for module in (tables, program):
    flags.adopt_module_key_flags(module)  # for --help


def train(config: fe.study.SchoolsConfig) -> None:
    """Runs the study as the flags say."""
    if unknown := set(_TRACKERS.value) - set(fe.study.TRACKERS):
        raise fe.errors.ConfigError("trackers", sorted(unknown)[0], f"use any of {', '.join(fe.study.TRACKERS)}")
    trackers = [fe.study.TRACKERS[name]() for name in _TRACKERS.value]
    if _CONSOLE.value == "json":
        trackers.append(fe.study.json_lines())
    said: list[str] = []
    population = tables.population(say=said.append)
    result = fe.study.run_schools(
        config,
        _WORKDIR.value or run_folder(),
        None if _CONSOLE.value == "progress" else Console(quiet=True),
        population=population,
        preface=said,
        profiled=_PROFILE.value,
        trackers=trackers,
        overwrite=_OVERWRITE.value,
    )
    if not result.finite:
        raise fe.errors.ConfigError("config.federated", "a run that diverged", "lower its rates, or clip gradients")


if __name__ == "__main__":
    run(fe.study.SchoolsConfig.from_mapping, train)
