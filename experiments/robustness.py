"""Schools that lie, and rules against them: ``python -m experiments.robustness --config=experiments/configs/robustness.py``.

Results go to ``--workdir``.
"""

from absl import flags

import fedjax_edu as fe
from experiments.program import run

_WORKDIR = flags.DEFINE_string("workdir", "runs/robustness", "The run folder; results that it has are replaced.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds a fold.")
_FOLDS = flags.DEFINE_integer("folds", 5, "How many of the five folds.")

if __name__ == "__main__":
    run(
        fe.study.RobustnessConfig.from_mapping,
        lambda config: fe.study.run_robustness(config, _WORKDIR.value, seeds=_SEEDS.value, folds=_FOLDS.value),
    )
