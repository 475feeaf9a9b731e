"""Somebody's own table: one model with a head for each task, trained by federated averaging over four fifths of the clients.

    python -m experiments.train --csv=students.csv --client=school_id --task=passed:binary --task=score:regression

Settings are those of experiments/configs/schools.py with what they owe to its two studies left out; nothing is tuned to the table.
"""

from ml_collections import ConfigDict

from experiments.configs.schools import get_config as schools_config


def get_config() -> ConfigDict:
    config = schools_config()
    config.studies = []
    config.tasks = ConfigDict({"default": {"weight": 1.0, "intercept": 10.0, "slopes": 100.0, "classrooms": 10.0}})
    config.rounds = 200
    config.model.products = False  # a wide table has too many pairs of numbers and levels
    return config
