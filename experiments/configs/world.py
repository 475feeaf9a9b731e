"""A synthetic world of 512 institutions with five modalities: a federation of all of them against each by itself.

python -m experiments.world --config=experiments/configs/world.py
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "institutions": 512,
            "students": 60,
            "world": 0,
            "seed": 0,
            "test": 0.2,
            "width": 32,
            "heads": 2,
            "layers": 1,
            "batch_size": 16,
            "clip": 5.0,
            "rounds": 200,
            "cohort": 64,
            "client_learning_rate": 0.1,
            "server_learning_rate": 0.01,
            "alone_learning_rate": 0.05,
            "alone_epochs": 10,
            "alone_looks": 4,
        }
    )
