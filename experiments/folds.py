"""Mean scores over five folds: ``python -m experiments.folds --config=experiments/configs/schools.py --seeds=3``.

Each fold holds out another fifth of the schools. Results go to ``--workdir``, one run folder a fold and seed.
"""

from absl import flags

import fedjax_edu as fe
from experiments.program import run

_WORKDIR = flags.DEFINE_string("workdir", "runs/schools-folds", "The folder of all runs; those that were ended there go on.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Seeds a fold; the protocol asks for 3 where a number is reported.")
_FOLDS = flags.DEFINE_integer("folds", 5, "How many of the five folds.")

if __name__ == "__main__":
    run(fe.study.SchoolsConfig, lambda config: fe.study.run_folds(config, _WORKDIR.value, seeds=_SEEDS.value, folds=_FOLDS.value))
