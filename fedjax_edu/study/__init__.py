"""Studies as users run them: the school protocol, training with progress, baselines, comparisons, tables and plots."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedjax_edu.study import multilevel
    from fedjax_edu.study.algorithms import AlgorithmsConfig, run_algorithms, tune_algorithms
    from fedjax_edu.study.calibration import CalibrationReport, measure_calibration
    from fedjax_edu.study.card import CardFacts
    from fedjax_edu.study.checkpoints import Checkpoints
    from fedjax_edu.study.comparison import ModelComparison, compare
    from fedjax_edu.study.config import Config, SchoolsConfig, StudyConfig
    from fedjax_edu.study.exported import ExportedModel
    from fedjax_edu.study.exporting import export, load_model
    from fedjax_edu.study.fairness import FairnessReport, abroca, measure_fairness
    from fedjax_edu.study.folds import run_folds
    from fedjax_edu.study.profiling import Profile, profile
    from fedjax_edu.study.provenance import origin
    from fedjax_edu.study.results import Result
    from fedjax_edu.study.robustness import RobustnessConfig, run_robustness
    from fedjax_edu.study.run import Run
    from fedjax_edu.study.saving import Saving
    from fedjax_edu.study.school_run import run_schools
    from fedjax_edu.study.school_search import SearchConfig, run_search
    from fedjax_edu.study.schools import prepare
    from fedjax_edu.study.searching import search
    from fedjax_edu.study.stopping import Stopped
    from fedjax_edu.study.sweeping import Sweep, sweep
    from fedjax_edu.study.tables import Table
    from fedjax_edu.study.task_run import TaskRun
    from fedjax_edu.study.tracking import TRACKERS, Tracker, json_lines, mlflow, tensorboard, wandb
    from fedjax_edu.study.training import Trainer
    from fedjax_edu.study.trials import open_study
    from fedjax_edu.study.worlds.run import run_world, world_config

__all__ = [
    "TRACKERS",
    "AlgorithmsConfig",
    "CalibrationReport",
    "CardFacts",
    "Checkpoints",
    "Config",
    "ExportedModel",
    "FairnessReport",
    "ModelComparison",
    "Profile",
    "Result",
    "RobustnessConfig",
    "Run",
    "Saving",
    "SchoolsConfig",
    "SearchConfig",
    "Stopped",
    "StudyConfig",
    "Sweep",
    "Table",
    "TaskRun",
    "Tracker",
    "Trainer",
    "abroca",
    "compare",
    "export",
    "json_lines",
    "load_model",
    "measure_calibration",
    "measure_fairness",
    "mlflow",
    "multilevel",
    "open_study",
    "origin",
    "prepare",
    "profile",
    "run_algorithms",
    "run_folds",
    "run_robustness",
    "run_schools",
    "run_search",
    "run_world",
    "search",
    "sweep",
    "tensorboard",
    "tune_algorithms",
    "wandb",
    "world_config",
]

_HOME = {
    "TRACKERS": "tracking",
    "AlgorithmsConfig": "algorithms",
    "CalibrationReport": "calibration",
    "CardFacts": "card",
    "Checkpoints": "checkpoints",
    "Config": "config",
    "ExportedModel": "exported",
    "FairnessReport": "fairness",
    "ModelComparison": "comparison",
    "Profile": "profiling",
    "Result": "results",
    "RobustnessConfig": "robustness",
    "Run": "run",
    "Saving": "saving",
    "SchoolsConfig": "config",
    "SearchConfig": "school_search",
    "Stopped": "stopping",
    "StudyConfig": "config",
    "Sweep": "sweeping",
    "Table": "tables",
    "TaskRun": "task_run",
    "Tracker": "tracking",
    "Trainer": "training",
    "abroca": "fairness",
    "compare": "comparison",
    "export": "exporting",
    "json_lines": "tracking",
    "load_model": "exporting",
    "measure_calibration": "calibration",
    "measure_fairness": "fairness",
    "mlflow": "tracking",
    "open_study": "trials",
    "origin": "provenance",
    "prepare": "schools",
    "profile": "profiling",
    "run_algorithms": "algorithms",
    "run_folds": "folds",
    "run_robustness": "robustness",
    "run_schools": "school_run",
    "run_search": "school_search",
    "run_world": "worlds.run",
    "search": "searching",
    "sweep": "sweeping",
    "tensorboard": "tracking",
    "tune_algorithms": "algorithms",
    "wandb": "tracking",
    "world_config": "worlds.run",
}


def __getattr__(name: str) -> Any:
    """Imports a part of the study when it is first used: Flax and the tables' packages load late."""
    if name == "multilevel":
        return importlib.import_module("fedjax_edu.study.multilevel")
    if name in _HOME:
        return getattr(importlib.import_module(f"fedjax_edu.study.{_HOME[name]}"), name)
    raise AttributeError(f"module 'fedjax_edu.study' has no attribute {name!r}")
