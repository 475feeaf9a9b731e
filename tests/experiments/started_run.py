"""The run of ``killed_run`` as a program starts it: ``python -m tests.experiments.started_run FOLDER ROUNDS``."""

import sys

from absl import app

from experiments.start import start
from tests.experiments.killed_run import main

if __name__ == "__main__":
    start(lambda: main(*sys.argv[1:]), lambda argv: app.parse_flags_with_usage(argv[:1]))
