"""A synthetic world of institutions, together and alone: ``python -m experiments.world --config=experiments/configs/world.py``.

Results go to ``--workdir``.
"""

from absl import flags

import fedjax_edu as fe
from experiments.program import run

_WORKDIR = flags.DEFINE_string("workdir", "runs/world", "The run folder; results that it has are replaced.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds of the split, the model and the cohorts.")

if __name__ == "__main__":
    run(fe.study.WorldConfig, lambda config: fe.study.run_world(config, _WORKDIR.value, seeds=_SEEDS.value))
