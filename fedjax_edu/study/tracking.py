"""Where the records of a run go beside its folder: one interface, and the services behind it."""

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fedjax_edu.core.errors import require
from fedjax_edu.study.processes import is_first
from fedjax_edu.study.run_folder import to_json

Send = Callable[[int, dict[str, float]], object]
Service = Callable[[Path, Mapping[str, Any], int], contextlib.AbstractContextManager[Send]]


class Tracker:
    """Sends the numbers of every round of a run somewhere; of several processes the first alone does.

    Args:
        service: a context manager ``(folder, description, after) -> send``, open while the run trains: the run folder, what the run is
            with dotted names, and the round after which it goes on, for an earlier process may have sent records of later ones; then
            ``send(round, numbers)`` once for each round.

    >>> @contextlib.contextmanager
    ... def printed(folder, description, after):
    ...     yield lambda number, numbers: print(number, numbers)
    >>> with Tracker(printed).opened(Path("run"), {}, after=2) as log:
    ...     log({"round": 3, "loss": 0.5, "held_out": {"math": 0.7}})
    3 {'loss': 0.5, 'held_out/math': 0.7}
    """

    def __init__(self, service: Service):
        self._service = service

    @contextlib.contextmanager
    def opened(self, folder: Path, description: Mapping[str, Any], after: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """What takes one record after the other.

        Args:
            folder: of the run.
            description: what the run is.
            after: the round after which it goes on.
        """
        if not is_first():
            yield lambda record: None
            return
        with self._service(folder, description, after) as send:

            def log(record: Mapping[str, Any]) -> None:
                send(record["round"], _numbers(record))

            yield log


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record, those of inner mappings with a slash in their name."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{inner}": number for inner, number in _numbers(value).items()}
        elif name != "round":
            found[name] = value
    return found


def tensorboard() -> Tracker:
    """Event files in the run folder's ``tensorboard``, which TensorBoard shows; written without TensorFlow.

    Raises:
        MissingDependencyError: tensorboardX is missing.
    """
    require("the TensorBoard tracker", "tracking", "tensorboardX")
    return Tracker(_tensorboard)


@contextlib.contextmanager
def _tensorboard(folder: Path, description: Mapping[str, Any], after: int) -> Iterator[Send]:
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard"), purge_step=after + 1 if after else None) as writer:
        writer.add_text("run", "\n".join(f"    {name}: {value}" for name, value in description.items()), after)

        def send(number: int, numbers: dict[str, float]) -> None:
            for name, value in numbers.items():
                writer.add_scalar(name, value, number)

        yield send


def wandb(project: str = "fedjax_edu", **settings: Any) -> Tracker:
    """A run of Weights & Biases, which a run that goes on continues.

    Args:
        project: its name there.
        settings: further arguments of ``wandb.init``, for instance ``mode="offline"``.

    Raises:
        MissingDependencyError: wandb is missing.
    """
    require("the Weights & Biases tracker", None, "wandb")
    return Tracker(partial(_wandb, project, settings))


@contextlib.contextmanager
def _wandb(project: str, settings: dict[str, Any], folder: Path, description: Mapping[str, Any], after: int) -> Iterator[Send]:
    import wandb

    name = _name(folder / "wandb.id", lambda: uuid.uuid4().hex[:12])
    with wandb.init(project=project, id=name, resume="allow", dir=folder, config=dict(description), **settings) as run:
        yield lambda number, numbers: run.log(numbers, step=number)


def mlflow(experiment: str = "fedjax_edu", **settings: Any) -> Tracker:
    """A run of MLflow, which a run that goes on continues.

    Args:
        experiment: its name there.
        settings: arguments of ``mlflow.MlflowClient``, for instance ``tracking_uri="sqlite:///mlflow.db"``.

    Raises:
        MissingDependencyError: mlflow is missing.
    """
    require("the MLflow tracker", None, "mlflow")
    return Tracker(partial(_mlflow, experiment, settings))


@contextlib.contextmanager
def _mlflow(experiment: str, settings: dict[str, Any], folder: Path, description: Mapping[str, Any], after: int) -> Iterator[Send]:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, RunTag

    client = MlflowClient(**settings)

    def begin() -> str:
        known = client.get_experiment_by_name(experiment)
        group = client.create_experiment(experiment) if known is None else known.experiment_id
        return client.create_run(group, run_name=folder.name).info.run_id

    run = _name(folder / "mlflow.id", begin)
    client.log_batch(run, tags=[RunTag(name, str(value)) for name, value in description.items()])

    def send(number: int, numbers: dict[str, float]) -> None:
        now = int(1000 * time.time())
        client.log_batch(run, metrics=[Metric(name, value, now, number) for name, value in numbers.items()])

    yield send
    client.set_terminated(run)


def _name(path: Path, make: Callable[[], str]) -> str:
    """A service's name for a run, made once and kept in a file."""
    if not path.exists():
        path.write_text(make())
    return path.read_text()


def json_lines() -> Tracker:
    """One JSON object a round on standard output, numbers only."""
    return Tracker(_json_lines)


@contextlib.contextmanager
def _json_lines(folder: Path, description: Mapping[str, Any], after: int) -> Iterator[Send]:
    yield lambda number, numbers: print(json.dumps(to_json({"round": number, **numbers})), flush=True)


TRACKED = ("tensorboard", "wandb", "wandb.id", "mlflow.id")  # what trackers leave in a run folder
TRACKERS: dict[str, Callable[[], Tracker]] = {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow}
