"""A fifth of STAR's schools lie: rules of aggregation against attacks.

Hardware: two CPU cores, about half an hour for one fold (``--folds=1``) and three seeds.

    python -m experiments.robustness --config=experiments/configs/robustness.py

Every school takes part in every round, so that the share of liars is the same in each. The radius of centered clipping is about the
median norm of an honest update.
"""

from ml_collections import ConfigDict

from experiments.configs.schools import get_config as schools_config


def get_config() -> ConfigDict:
    schools = schools_config()
    schools.rounds = 40
    schools.chunk = 20
    schools.model.members = 1
    schools.federated.client_learning_rate = 0.2
    return ConfigDict({"schools": schools, "attackers": 0.2, "gaussian_std": 1.0, "ipm_scale": 2.0, "radius": 0.3})
