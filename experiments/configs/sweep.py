"""Rates and momentum of FedAvg on HSB82 and STAR, one network, 100 rounds: what to search and how.

    python -m experiments.sweep --config=experiments/configs/sweep.py --trials=40

Eight trials run at a time; scores on an inner split of fold 1's training schools are looked at every 20 rounds. FedAvg with a
momentum at its server is FedAvgM. What is found on one inner split is to be confirmed on others before it counts.
"""

from ml_collections import ConfigDict

from experiments.configs.schools import get_config as schools_config


def get_config() -> ConfigDict:
    schools = schools_config()
    schools.rounds = 100
    schools.model.members = 1
    schools.model.products = False
    schools.federated = schools.federated.to_dict() | {"algorithm": "fedavg", "arguments": {}}
    return ConfigDict(
        {
            "schools": schools,
            "space": [
                {"name": "client_optimizer.learning_rate", "low": 0.02, "high": 1.0, "log": True},
                {"name": "server_optimizer.learning_rate", "low": 0.05, "high": 5.0, "log": True},
                {"name": "server_optimizer.momentum", "low": 0.0, "high": 0.95, "log": False},
            ],
            "members": 8,
            "segment": 20,
            "sampler": "TPESampler",
            "sampler_arguments": {"n_startup_trials": 16},
            "pruner": "MedianPruner",
            "pruner_arguments": {"n_startup_trials": 8},
        }
    )
