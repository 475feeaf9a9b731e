"""Where records go beside the run folder, read back with tools that are not ours; and what is printed."""

import contextlib
import io
import json
import struct
import sys

import numpy as np
import optax
import pytest
from rich.console import Console

import fedjax_edu as fe
from fedjax_edu.study import Run, Tracker, json_lines, tensorboard
from fedjax_edu.study.console import Logged
from fedjax_edu.study.run_folder import RunFolder


@pytest.fixture(scope="module")
def engine():
    population = fe.data.Population.from_arrays({"y": np.arange(6, dtype=np.float32)}, offsets=[0, 2, 6])
    algorithm = fe.algorithms.fedavg(
        lambda params, batch, key: 0.5 * (params["mean"] - batch["y"]) ** 2,
        client_optimizer=optax.sgd(0.5),
        local=fe.LocalTraining(epochs=1),
    )
    return fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())


def train(engine, folder, tracker, rounds):
    run = Run(engine, {"mean": np.float32(0)}, folder, trackers=[tracker], report=2, console=Console(quiet=True))
    return run.train(rounds)[1]


def scalars(folder):
    """``{(tag, step): value}`` of all event files, in the frames of TFRecord: length, checksum, content, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            if event.HasField("session_log"):  # what comes after this step was run again
                found = {key: value for key, value in found.items() if key[1] < event.step}
            found |= {(value.tag, event.step): value.simple_value for value in event.summary.value if value.HasField("simple_value")}
    return found


def test_tensorboard_has_every_round_once(engine, tmp_path):
    train(engine, tmp_path, tensorboard(), 2)
    history = train(engine, tmp_path, tensorboard(), 5)
    found = scalars(tmp_path / "tensorboard")
    assert {step for _, step in found} == {1, 2, 3, 4, 5}
    for record in history.rounds:
        assert found["loss", record["round"]] == np.float32(record["loss"])
        assert found["bytes_up", record["round"]] == record["bytes_up"]


def test_json_lines_are_printed_as_rounds_end(engine, tmp_path, capsys):
    history = train(engine, tmp_path, json_lines(), 3)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["round"] for line in lines] == [1, 2, 3]
    assert [line["loss"] for line in lines] == [record["loss"] for record in history.rounds]


def test_a_service_is_told_what_the_run_is_and_where_it_goes_on(engine, tmp_path):
    opened, sent = [], []

    @contextlib.contextmanager
    def service(folder, description, after):
        opened.append((folder, description["seed"], after))
        yield lambda number, numbers: sent.append((number, sorted(numbers)))
        opened.append("closed")

    train(engine, tmp_path, Tracker(service), 1)
    train(engine, tmp_path, Tracker(service), 2)
    assert opened == [(tmp_path, 0, 0), "closed", (tmp_path, 0, 1), "closed"]
    assert [number for number, _ in sent] == [1, 2]
    assert {"loss", "participants", "bytes_up"} < set(sent[0][1])


@pytest.mark.parametrize(("make", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_tracker_whose_package_is_missing_says_so_before_any_work(make, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(fe.errors.MissingDependencyError, match=rf"^{package}: not installed"):
        getattr(fe.study, make)()


def test_wandb_continues_its_run(engine, tmp_path):
    pytest.importorskip("wandb")
    for rounds in (2, 4):
        train(engine, tmp_path, fe.study.wandb(mode="offline", settings={"silent": True}), rounds)
    assert len(list((tmp_path / "wandb").glob(f"offline-run-*-{(tmp_path / 'wandb.id').read_text()}"))) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the packages that it uses
def test_mlflow_continues_its_run(engine, tmp_path):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    where = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for rounds in (2, 4):
        history = train(engine, tmp_path / "run", fe.study.mlflow(tracking_uri=where), rounds)
    run = (tmp_path / "run" / "mlflow.id").read_text()
    client = MlflowClient(tracking_uri=where)
    assert {one.step: one.value for one in client.get_metric_history(run, "loss")} == {
        record["round"]: pytest.approx(record["loss"]) for record in history.rounds
    }
    assert client.get_run(run).info.status == "FINISHED"
    assert client.get_run(run).data.tags["seed"] == "0"


def test_what_is_printed_is_kept(tmp_path):
    text = io.StringIO()
    printer = Logged(Console(file=text, width=140), RunFolder(tmp_path))
    printer.print("round 1", style="bold")
    assert not (tmp_path / "log.txt").exists()  # the folder may be another run's
    printer.begin()
    printer.print("round 2")
    assert (tmp_path / "log.txt").read_text() == text.getvalue() == "round 1\nround 2\n"
