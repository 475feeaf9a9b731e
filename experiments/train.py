"""Trains a federation of schools: ``python -m experiments.train --config=experiments/configs/schools.py``.

Any field can be set on the command line (``--config.rounds=50``). Results go to ``--workdir``.
"""

import sys

from absl import app, flags
from ml_collections import config_flags

import fedjax_edu as fe

_CONFIG = config_flags.DEFINE_config_file("config", "experiments/configs/schools.py", "What to run.")
_WORKDIR = flags.DEFINE_string("workdir", "runs/schools", "The run folder; results that it has are replaced.")


def main(argv: list[str]) -> None:
    """Runs the study; a mistake in the call ends the program with one line that names it."""
    try:
        config = fe.study.SchoolsConfig.from_mapping(_CONFIG.value.to_dict())
        fe.configure()
        fe.study.run_schools(config, _WORKDIR.value)
    except fe.errors.FedjaxEduError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    app.run(main)
