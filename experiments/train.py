"""Trains a federation of schools: ``python -m experiments.train --config=experiments/configs/schools.py``.

Any field can be set on the command line (``--config.rounds=50``). Results go to ``--workdir``.
"""

from absl import flags

import fedjax_edu as fe
from experiments.program import run

_WORKDIR = flags.DEFINE_string("workdir", "runs/schools", "The run folder; results that it has are replaced.")
_PROFILE = flags.DEFINE_bool("profile", False, "First trace three rounds into WORKDIR/profile and say where their time goes.")

if __name__ == "__main__":
    run(fe.study.SchoolsConfig, lambda config: fe.study.run_schools(config, _WORKDIR.value, profiled=_PROFILE.value))
