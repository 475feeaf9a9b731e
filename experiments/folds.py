"""Mean scores over five folds: ``python -m experiments.folds --config=experiments/configs/schools.py --seeds=3``.

Each fold holds out another fifth of the schools. Results go to ``--workdir``, one run folder a fold and seed; further federations that the
configuration has beside its main one have their own, and a row in every table.
"""

from absl import flags

import fedjax_edu as fe
from experiments.program import run, run_folder

_WORKDIR = flags.DEFINE_string("workdir", None, "The folder of all runs, which go on there; runs/CONFIG-folds unless given.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Seeds a fold; the protocol asks for 3 where a number is reported.")
_FOLDS = flags.DEFINE_integer("folds", 5, "How many of the five folds.")


def folds(config: fe.study.StudyConfig) -> None:
    """Runs the study as the flags say."""
    workdir = _WORKDIR.value or f"{run_folder()}-folds"
    fe.study.run_folds(config.main, workdir, beside=config.beside, seeds=_SEEDS.value, folds=_FOLDS.value)


if __name__ == "__main__":
    run(fe.study.StudyConfig.from_mapping, folds)
