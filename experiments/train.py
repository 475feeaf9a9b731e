"""Trains a federation of schools: ``python -m experiments.train --config=experiments/configs/schools.py``, or on your own table:
``python -m experiments.train --csv=students.csv --client=school_id --task=passed:binary --task=score:regression``.

Any field can be set on the command line (``--config.rounds=50``). Results go to ``--workdir``.
"""

from absl import flags

import fedjax_edu as fe
from experiments import tables
from experiments.program import run

_WORKDIR = flags.DEFINE_string("workdir", "runs/schools", "The run folder; results that it has are replaced.")
_PROFILE = flags.DEFINE_bool("profile", False, "First trace three rounds into WORKDIR/profile and say where their time goes.")

if __name__ == "__main__":
    run(
        fe.study.SchoolsConfig,
        lambda config: fe.study.run_schools(config, _WORKDIR.value, population=tables.population(), profiled=_PROFILE.value),
    )
