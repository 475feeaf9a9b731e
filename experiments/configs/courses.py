"""Courses of a university: is it an upper-division one, with a number from 100 on? Titles are read by MiniLM, whose weights stay, with
low-rank matrices beside them, and with what kind of course it is. The clients are 131 subjects, a fifth of which is held out. Rates,
cohort and rounds were chosen on an inner split of fold 1's training subjects: few subjects a round, and many small steps.

    python -m experiments.train --config=experiments/configs/courses.py    # needs the extra `pretrained`
    python -m experiments.folds --config=experiments/configs/courses.py --seeds=3
"""

from ml_collections import ConfigDict

from experiments.configs.m3t import get_config as m3t_config


def get_config() -> ConfigDict:
    config = m3t_config()
    config.studies = ("courses",)
    config.rounds, config.cohort, config.chunk = 200, 4, 20
    config.saving.rounds = 50
    config.model.texts = {"source": "minilm", "rank": 8, "pieces": 16, "buckets": 0, "gain": 30.0, "subwords": 256}
    federated = {"client_learning_rate": 0.1, "server_learning_rate": 0.001, "batch_size": 16}
    config.federated = ConfigDict({**config.federated.to_dict(), **federated})
    return config
