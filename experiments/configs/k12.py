"""Eight studies, 3,127 real schools, 13 tasks: the school study's model on ``fe.data.load("k12")``."""

from ml_collections import ConfigDict

from experiments.configs.schools import get_config as schools_config


def get_config() -> ConfigDict:
    config = schools_config()
    config.studies = ["hsb", "star", "egsingle", "bdf", "exam", "scots", "chem", "gcse"]
    config.tasks.default = {"weight": 1.0, "intercept": 10.0, "slopes": 100.0, "classrooms": 10.0}
    config.cohort, config.rounds = 256, 300
    return config
