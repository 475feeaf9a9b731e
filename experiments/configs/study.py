"""The study of the README on eight studies, 3,127 real schools, 13 tasks: the ensemble of experiments/configs/k12.py with everything that
it is compared with, and beside it the multi-modal model: of all studies together, with dense networks instead of experts, of each alone.

    python -m experiments.folds --config=experiments/configs/study.py --seeds=3

A study alone has the settings that were chosen for all together. Its schools are visited as often as there, or more: where a proportional
cohort were smaller than LEAST schools, it is LEAST.
"""

from typing import Any

from ml_collections import ConfigDict

from experiments.configs.k12 import get_config as k12_config
from experiments.configs.m3t import get_config as m3t_config

SCHOOLS = {"hsb": 160, "star": 80, "egsingle": 60, "bdf": 131, "exam": 65, "scots": 148, "chem": 2410, "gcse": 73}
LEAST = 8


def get_config() -> ConfigDict:
    together, dense = m3t_config(), m3t_config("dense")
    beside = {"M3T": [together], "M3T, dense": [dense], "M3T, study alone": [_alone(together, study) for study in SCHOOLS]}
    rows = {f"federated {name}": [{**config.to_dict(), "compared": ()} for config in configs] for name, configs in beside.items()}
    return ConfigDict({"main": k12_config(), "beside": rows})


def _alone(config: ConfigDict, study: str) -> ConfigDict:
    changed: dict[str, Any] = {"studies": (study,), "cohort": max(LEAST, config.cohort * SCHOOLS[study] // sum(SCHOOLS.values()))}
    return ConfigDict({**config.to_dict(), **changed})
