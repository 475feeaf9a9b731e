"""Searches for settings on real schools: ``python -m experiments.sweep --config=experiments/configs/sweep.py --trials=40``.

Results go to ``--workdir``, trials to ``--storage`` as they end. A sweep that was stopped, by whatever, goes on where it was when
the same command is given again; with more ``--trials``, one that is done goes on too.
"""

from absl import flags

import fedjax_edu as fe
from experiments.program import run

_WORKDIR = flags.DEFINE_string("workdir", "runs/sweep", "The run folder; tables that it has are replaced.")
_TRIALS = flags.DEFINE_integer("trials", 40, "Trials that are finished in the end, those that the storage has included.")
_STORAGE = flags.DEFINE_string("storage", "", "sqlite:///FILE, or the path of an Optuna journal; empty: study.sqlite3 in --workdir.")

if __name__ == "__main__":
    run(
        fe.study.SearchConfig.from_mapping,
        lambda config: fe.study.run_search(config, _WORKDIR.value, trials=_TRIALS.value, storage=_STORAGE.value),
    )
