"""Mean scores over five folds: ``python -m experiments.folds --config=experiments/configs/schools.py --seeds=3``.

Each fold holds out another fifth of the schools. Results go to ``--workdir``, one run folder a fold and seed.
"""

import sys

from absl import app, flags
from ml_collections import config_flags

import fedjax_edu as fe

_CONFIG = config_flags.DEFINE_config_file("config", "experiments/configs/schools.py", "What to run in every fold.")
_WORKDIR = flags.DEFINE_string("workdir", "runs/schools-folds", "The folder of all runs; results that it has are replaced.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Seeds a fold; the protocol asks for 3 where a number is reported.")
_FOLDS = flags.DEFINE_integer("folds", 5, "How many of the five folds.")


def main(argv: list[str]) -> None:
    """Runs the folds; a mistake in the call ends the program with one line that names it."""
    try:
        config = fe.study.SchoolsConfig.from_mapping(_CONFIG.value.to_dict())
        fe.configure()
        fe.study.run_folds(config, _WORKDIR.value, seeds=_SEEDS.value, folds=_FOLDS.value)
    except fe.errors.FedjaxEduError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    app.run(main)
