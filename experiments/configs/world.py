"""A synthetic world of institutions with five modalities, whose best predictions are known.

python -m experiments.world --config=experiments/configs/world.py            # 512 institutions together, and each by itself
python -m experiments.world --config=experiments/configs/world.py:missing    # students who lack a modality: FedMVP and others
python -m experiments.world --config=experiments/configs/world.py:adapting   # TAP, its parts, and what it is compared with
python -m experiments.world --config=experiments/configs/world.py:pairs      # the server's model and the number of its tasks
"""

from typing import Any

from ml_collections import ConfigDict

SETTING = {
    "institutions": 512,
    "students": 60,
    "world": 0,
    "seed": 0,
    "modalities": ("tabular", "sequence", "text", "image", "audio"),
    "test": 0.2,
    "width": 32,
    "heads": 2,
    "layers": 1,
    "batch_size": 16,
    "clip": 5.0,
    "lanes": 1,
    "rounds": 200,
    "cohort": 64,
    "client_learning_rate": 0.1,
    "server_learning_rate": 0.01,
}
TABLES: dict[str, dict[str, Any]] = {
    "together": {"alone_learning_rate": 0.05, "alone_epochs": 10, "alone_looks": 4},
    "missing": {
        "modalities": ("tabular", "image", "audio"),
        "institutions": 64,
        "cohort": 16,
        "rounds": 100,
        "ratios": (0.0, 0.2, 0.4, 0.6, 0.8),
        "ridge": 1.0,
        "public": 32,
        "probe": 64,
        "matching": 0.01,
        "margin": 0.5,
    },
    "adapting": {
        "institutions": 64,
        "cohort": 16,
        "rounds": 100,
        "overlap": 0.0,
        "school_effect": 0.2,
        "margin": 0.01,
        "tuning_epochs": 3,
        "distillation": 2e-3,
    },
    "pairs": {"institutions": 128, "cohort": 16, "rounds": 100, "counts": (1, 2, 4, 8)},
}


def get_config(table: str = "together") -> ConfigDict:
    if table not in TABLES:
        raise ValueError(f"{table} after the colon; use {', '.join(TABLES)}, or leave the colon out")
    return ConfigDict({"table": table, **SETTING, **TABLES[table]})
