"""Optuna studies that are kept in a file, and go on after the process that searched was killed."""

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedjax_edu.core.errors import ArgumentError, require

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.storages import BaseStorage

SQLITE = "sqlite:///"
_SETTINGS = "settings"  # the study's attribute that says what its trials have in common


@contextlib.contextmanager
def open_study(
    storage: str, name: str, *, direction: str = "minimize", pruner: "BasePruner | None" = None, settings: Mapping[str, Any] | None = None
) -> "Iterator[Study]":
    """Creates an Optuna study, or opens one to go on with it; nobody else can while it is open.

    Trials that a killed process left running are failed, and their settings wait to be tried again before new ones. Whether that
    process is dead is certain: the lock that it held went with it. Optuna's heartbeats would guess it from the clock, do not cover
    trials that are asked for, and want a database.

    Args:
        storage: ``sqlite:///`` and a file, or the file of an Optuna journal.
        name: of the study; a storage holds several.
        direction: "minimize" or "maximize".
        pruner: an Optuna pruner; None prunes nothing.
        settings: what all trials have in common, as JSON values; a study is not continued under others.

    Yields:
        The study.

    Raises:
        ArgumentError: a storage of another kind, one that cannot be written or read or is open elsewhere; a study that was begun with
            another direction or other settings.
        MissingDependencyError: Optuna is not installed.
    """
    require("a search", "study", "optuna")
    import optuna

    if direction not in ("minimize", "maximize"):
        raise ArgumentError("direction", direction, 'use "minimize" or "maximize"')
    with _locked(storage):
        study = optuna.create_study(
            storage=_open(storage),
            study_name=name,
            direction=optuna.study.StudyDirection[direction.upper()],
            pruner=pruner or optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
        _check_settings(study, storage, {"direction": direction, **(settings or {})})
        _retry(study)
        yield study


def _file(storage: str) -> Path:
    """The file behind a storage."""
    name = storage.removeprefix(SQLITE)
    if "://" in name or name in ("", ":memory:"):
        raise ArgumentError("storage", storage, f"use {SQLITE}FILE, or the path of a journal file")
    return Path(name)


@contextlib.contextmanager
def _locked(storage: str) -> Iterator[None]:
    """Locks a file beside the storage; the end of the process unlocks it too, whatever ends it."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(Path(f"{_file(storage)}.search").open("w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArgumentError("storage", storage, "wait until the search that runs on it has ended, or name another") from error
        except OSError as error:
            raise ArgumentError("storage", storage, f"name a file in a folder you may write to ({error})") from error
        yield


def _open(storage: str) -> "BaseStorage":
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        return RDBStorage(storage) if storage.startswith(SQLITE) else JournalStorage(JournalFileBackend(storage))
    except Exception as error:  # SQLAlchemy and Alembic have dozens of their own, a journal those of JSON
        words = str(error).partition("\n")[0]
        raise ArgumentError("storage", storage, f"name a new file, or one that Optuna wrote ({words})") from error


def _check_settings(study: "Study", storage: str, settings: Mapping[str, Any]) -> None:
    given, begun = json.loads(json.dumps(settings)), study.user_attrs.get(_SETTINGS)
    if begun is None:
        study.set_user_attr(_SETTINGS, given)
    elif begun != given:
        other = sorted(name for name in begun.keys() | given.keys() if begun.get(name) != given.get(name))
        remedy = f"name another storage or study: {study.study_name} was begun with another {', '.join(other)}"
        raise ArgumentError("storage", storage, remedy)


def _retry(study: "Study") -> None:
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number})
