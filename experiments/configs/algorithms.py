"""Every algorithm on HSB82 and STAR, one network each, 100 rounds.

Hardware: two CPU cores, about an hour for five folds and three seeds beside other work.

    python -m experiments.algorithms --config=experiments/configs/algorithms.py
    python -m experiments.algorithms --config=experiments/configs/algorithms.py --tune=all --folds=2

The second command prints what the settings were chosen by: the mean score over tasks on inner splits of the training schools of folds
1 and 2, for every point of each algorithm's grid. Two have the next best point, at most .002 below: FedBuff at a client's rate of .4 and
Mime at .1 diverged in other folds when a first table was made.
"""

from typing import Any

from ml_collections import ConfigDict

from experiments.configs.schools import get_config as schools_config

CLIENT = [0.2, 0.4]
# algorithm: its settings, and the values that were tried around them
ALGORITHMS: dict[str, tuple[dict[str, Any], dict[str, list[Any]]]] = {
    "fedavg": ({"client": 0.2, "server": 2.0}, {"client": [0.2, 0.4, 0.6], "server": [1.0, 2.0]}),
    "fedavgm": ({"client": 0.2, "server": 1.0, "momentum": 0.9}, {"client": CLIENT, "server": [0.25, 0.5, 1.0]}),
    "fedprox": ({"client": 0.2, "server": 2.0, "mu": 0.01}, {"client": CLIENT, "mu": [0.01, 0.1, 1.0], "server": [1.0, 2.0]}),
    "fedadagrad": ({"client": 0.2, "server": 0.03, "tau": 0.001}, {"client": CLIENT, "server": [0.01, 0.03, 0.1]}),
    "fedadam": ({"client": 0.2, "server": 0.03, "tau": 0.001}, {"client": CLIENT, "server": [0.003, 0.01, 0.03]}),
    "fedyogi": ({"client": 0.2, "server": 0.03, "tau": 0.001}, {"client": CLIENT, "server": [0.003, 0.01, 0.03]}),
    "scaffold": ({"client": 0.05, "server": 2.0}, {"client": [0.01, 0.02, 0.05, 0.1], "server": [1.0, 2.0]}),
    "mime": ({"client": 0.05, "server": 1.0, "client_momentum": 0.9}, {"client": [0.05, 0.1, 0.2], "client_momentum": [0.0, 0.9]}),
    "mimelite": ({"client": 0.2, "server": 1.0, "client_momentum": 0.0}, {"client": [0.05, 0.1, 0.2], "client_momentum": [0.0, 0.9]}),
    "feddyn": ({"client": 0.2, "server": 0.0, "alpha": 0.03}, {"client": CLIENT, "alpha": [0.03, 0.1, 0.3]}),
    "fednova": ({"client": 0.2, "server": 2.0}, {"client": [0.2, 0.4, 0.6], "server": [1.0, 2.0]}),
    "fedbuff": ({"client": 0.2, "server": 2.0, "concurrency": 47}, {"client": CLIENT, "server": [0.5, 1.0, 2.0]}),
    "ifca": (
        {"client": 0.2, "server": 2.0, "clusters": 2, "spread": 0.03},
        {"client": CLIENT, "spread": [0.03, 0.1], "server": [1.0, 2.0]},
    ),
    "qffl": (
        {"client": 0.4, "server": 2.0, "q": 0.01, "lipschitz": 1.0},
        {"q": [0.01, 0.1, 1.0], "lipschitz": [1.0, 2.5], "server": [1.0, 2.0]},
    ),
    "afl": (
        {"client": 0.2, "server": 2.0, "mixture_rate": 0.0001},
        {"client": CLIENT, "mixture_rate": [0.0001, 0.001, 0.01], "server": [1.0, 2.0]},
    ),
    "term": ({"client": 0.2, "server": 2.0, "tilt": 0.1}, {"client": CLIENT, "tilt": [0.1, 0.3, 1.0], "server": [1.0, 2.0]}),
}
FIELDS = {
    "client": "client_learning_rate",
    "server": "server_learning_rate",
    "concurrency": "concurrency",
    "client_momentum": "client_momentum",
}


def get_config() -> ConfigDict:
    schools = schools_config()
    schools.rounds = schools.chunk = 100
    schools.model.members = 1
    schools.model.products = False
    settings, grids = {}, {}
    for name, (chosen, tried) in ALGORITHMS.items():
        fields = {FIELDS[short]: value for short, value in chosen.items() if short in FIELDS}
        own = {short: value for short, value in chosen.items() if short not in FIELDS}
        settings[name] = schools.federated.to_dict() | fields | {"algorithm": name, "arguments": own, "personal": (), "tuning_epochs": 0}
        grids[name] = {FIELDS.get(short, short): values for short, values in tried.items()}
    return ConfigDict({"schools": schools, "test": "held_out", "settings": settings, "grids": grids}, convert_dict=True)
