"""What schools can have of their own, on other pupils of the schools that took part: HSB82 and STAR, one network each, 100 rounds.

    python -m experiments.algorithms --config=experiments/configs/personal.py --workdir=runs/personal
    python -m experiments.algorithms --config=experiments/configs/personal.py --tune=all --folds=2

The second command prints what the settings were chosen by: the mean score over tasks on inner splits of the training schools of folds
1 and 2, for every point of each method's grid.
"""

from typing import Any

from ml_collections import ConfigDict

from experiments.configs.schools import get_config as schools_config

PLAIN = {"client_learning_rate": 0.2, "server_learning_rate": 2.0}
TUNED = {"client_learning_rate": [0.1, 0.2, 0.4]}
# method: its algorithm, its settings, and the values that were tried around them
METHODS: dict[str, tuple[str, dict[str, Any], dict[str, list[Any]]]] = {
    "fedavg": ("fedavg", PLAIN, TUNED),
    "fedavg, then each school alone": ("fedavg", PLAIN | {"tuning_epochs": 3}, {"tuning_epochs": [1, 3, 10]}),
    "fedper: own heads": ("fedavg", PLAIN | {"personal": ("heads",)}, TUNED),
    "fedrep: own heads": ("fedrep", PLAIN | {"personal": ("heads",)}, TUNED),
    "ditto": ("ditto", PLAIN | {"pull": 0.3}, {"pull": [0.1, 0.3, 1.0]}),
    "pfedme": ("pfedme", {"client_learning_rate": 0.2, "server_learning_rate": 1.0, "pull": 1.0, "rate": 0.2}, {"pull": [0.3, 1.0, 3.0]}),
    "apfl": ("apfl", PLAIN | {"mixing": 0.3}, {"mixing": [0.1, 0.3, 0.5]}),
    "apfl, by module": ("apfl", PLAIN | {"mixing": 0.3, "mixing_rate": 0.01, "by_module": True}, {"mixing_rate": [0.003, 0.01, 0.03]}),
    "each school alone": (
        "fedavg",
        PLAIN | {"personal": ("...",), "client_learning_rate": 0.05},
        {"client_learning_rate": [0.02, 0.05, 0.1]},
    ),
}


def get_config() -> ConfigDict:
    schools = schools_config()
    schools.rounds = schools.chunk = 100
    schools.model.members = 1
    schools.model.products = False
    plain = schools.federated.to_dict() | {"arguments": {}, "personal": (), "tuning_epochs": 0}
    settings, grids = {}, {}
    for name, (algorithm, chosen, tried) in METHODS.items():
        own = {key: value for key, value in chosen.items() if key not in plain}
        fields = {key: value for key, value in chosen.items() if key in plain}
        settings[name] = plain | fields | {"algorithm": algorithm, "arguments": own}
        grids[name] = tried
    return ConfigDict({"schools": schools, "test": "within", "settings": settings, "grids": grids}, convert_dict=True)
