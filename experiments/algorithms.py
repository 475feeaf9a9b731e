"""Every algorithm on real schools: ``python -m experiments.algorithms --config=experiments/configs/algorithms.py``.

Results go to ``--workdir``. With ``--tune=fedprox,feddyn`` (or ``--tune=all``) it tries the values of their grids on inner
splits of training schools instead, and prints a line for each.
"""

from absl import flags

import fedjax_edu as fe
from experiments.program import run

_WORKDIR = flags.DEFINE_string("workdir", "runs/algorithms", "The run folder; results that it has are replaced.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds a fold.")
_FOLDS = flags.DEFINE_integer("folds", 5, "How many of the five folds.")
_TUNE = flags.DEFINE_list("tune", [], "Algorithms to tune, or all.")


def main(config: fe.study.AlgorithmsConfig) -> None:
    """Compares, or tunes."""
    if _TUNE.value:
        fe.study.tune_algorithms(config, names=() if _TUNE.value == ["all"] else _TUNE.value, folds=_FOLDS.value)
    else:
        fe.study.run_algorithms(config, _WORKDIR.value, seeds=_SEEDS.value, folds=_FOLDS.value)


if __name__ == "__main__":
    run(fe.study.AlgorithmsConfig.from_mapping, main)
