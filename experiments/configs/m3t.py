"""The multi-modal multi-task model on eight studies: 3,127 real schools, 13 tasks; records and histories, four experts a layer.

    python -m experiments.train --config=experiments/configs/m3t.py
    python -m experiments.train --config=experiments/configs/m3t.py:dense   # a feed-forward network as wide as the experts of a token

Chosen on an inner split of fold 1's training schools: server Adam, its rate, the local rate and clip, one layer each, and weights of the
studies that have few rows a round (scores there: above the better of ridge and boosting, or less than .01 below, for 8 of the 11
tasks other than GCSE).
"""

from ml_collections import ConfigDict

from experiments.configs.k12 import get_config as k12_config

KINDS = {"experts": {"experts": 4, "hidden": 2.0}, "dense": {"experts": 0, "hidden": 4.0}}
RARE = ("bdf_lang", "bdf_arith", "gcse_written", "gcse_course")


def get_config(kind: str = "experts") -> ConfigDict:
    if kind not in KINDS:
        raise ValueError(f"{kind} after the colon; use {' or '.join(KINDS)}, or leave the colon out")
    config = k12_config()
    config.model = ConfigDict(
        {
            "width": 32,
            "heads": 2,
            "encoder_layers": 1,
            "fusion_layers": 1,
            **KINDS[kind],
            "chosen": 2,
            "balance": 1e-2,
            "z": 1e-3,
            # These studies have no texts; a table may.
            "texts": {"source": "", "rank": 0, "pieces": 32, "buckets": 0, "gain": 70.0, "phrases": 128, "stop_words": "english"},
        }
    )
    config.tasks = ConfigDict({**config.tasks.to_dict(), **{name: {**config.tasks.default.to_dict(), "weight": 3.0} for name in RARE}})
    federated = {"algorithm": "fedadam", "arguments": {}, "client_learning_rate": 0.1, "server_learning_rate": 0.05, "clip": 5.0}
    config.federated = ConfigDict({**config.federated.to_dict(), **federated})
    config.compared = ("local_ridge", "random_intercept", "boosting", "ridge", "constant")
    return config
