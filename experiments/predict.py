"""Predicts with a model that a federation left: ``python -m experiments.predict --model=runs/mine/model --csv=new.csv``.

Rows may be of any school, inputs may be missing, and targets need not be there. The table that it writes as CSV has the number of each
row from 0, its client, and the prediction of each task, with a probability where that is yes or no.
"""

import os
import sys
from pathlib import Path

from absl import flags

import fedjax_edu as fe
from experiments.start import prepare_jax, start

_MODEL = flags.DEFINE_string("model", "", "The folder of the model, WORKDIR/model of a run.")
_CSV = flags.DEFINE_string("csv", "", "The table: CSV, TSV or Parquet.")
_OUT = flags.DEFINE_string("out", "", "The file that predictions go to, replaced where it exists; standard output if empty.")
_ENCODING = flags.DEFINE_string("encoding", "utf-8", "Of the table.")


def main() -> None:
    """Reads the model and the table, and writes the predictions.

    Raises:
        ConfigError: no model or no table is named, or predictions cannot be written where they should be.
    """
    for flag, example in ((_MODEL, "runs/mine/model"), (_CSV, "new.csv")):
        if not flag.value:
            raise fe.errors.ConfigError(flag.name, "nothing", f"name it: --{flag.name}={example}")
    if _OUT.value and Path(_OUT.value).resolve() == Path(_CSV.value).resolve():
        raise fe.errors.ConfigError("out", _OUT.value, "name another file than the table, which it would replace")
    prepare_jax()
    predictions = fe.load_model(_MODEL.value).predict(_CSV.value, encoding=_ENCODING.value, say=lambda text: print(text, file=sys.stderr))
    try:
        predictions.to_csv(_OUT.value or sys.stdout, index=False)
    except BrokenPipeError:  # who reads them has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise fe.errors.ConfigError("out", _OUT.value or "standard output", f"name a file that can be written ({error})") from error


if __name__ == "__main__":
    start(main)
