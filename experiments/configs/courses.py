"""Courses of a university: is it an upper-division one, with a number from 100 on? Titles are read by MiniLM, whose weights stay, with
low-rank matrices beside them, and as words and phrases; beside them stands what kind of course it is. The clients are 131 subjects, a fifth
of which is held out.

    python -m experiments.train --config=experiments/configs/courses.py    # needs the extra `pretrained`
    python -m experiments.folds --config=experiments/configs/courses.py --seeds=3

Area under the curve, mean over splits of the training subjects alone (two in each of the five folds), MiniLM without its matrices:

| what reads titles | |
|---|---|
| MiniLM and phrases, as here | .851 |
| phrases alone | .842 |
| phrases alone in an eighth of the buckets, so that many share one, at the best of four rates | .829 |
| subwords of three to five letters, FedAdam | .837 |

On held-out subjects it has .875: mean of five folds and three seeds, .838 to .899, folds .872, .894, .852, .873 and .884. Logistic
regression on words and pairs of words, all rows in one place, has .867.
"""

from ml_collections import ConfigDict

from experiments.configs.m3t import get_config as m3t_config


def get_config() -> ConfigDict:
    config = m3t_config()
    config.studies = ("courses",)
    config.rounds, config.cohort, config.chunk = 80, 16, 20
    config.saving.rounds = 20
    config.model.experts = 0
    texts = {"source": "minilm", "rank": 2, "pieces": 16, "buckets": 2**18, "gain": 70.0, "phrases": 64, "stop_words": "english"}
    config.model.texts = texts
    federated = {"algorithm": "fedavgm", "client_learning_rate": 0.002, "server_learning_rate": 1.0, "batch_size": 16, "clip": 0.0}
    config.federated = ConfigDict({**config.federated.to_dict(), **federated, "weight_decay": 0.03})
    return config
