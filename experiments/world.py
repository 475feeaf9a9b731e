"""Tables about a synthetic world: ``python -m experiments.world --config=experiments/configs/world.py:missing``.

After the colon: ``together`` (or nothing), ``missing``, ``adapting`` or ``pairs``. Results go to ``--workdir``.
"""

from absl import flags

import fedjax_edu as fe
from experiments.program import run, run_folder

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run folder; results that it has are replaced. runs/world-missing for world.py:missing."
)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds of the split, the model and the cohorts.")

if __name__ == "__main__":
    run(fe.study.world_config, lambda config: fe.study.run_world(config, _WORKDIR.value or run_folder(), seeds=_SEEDS.value))
