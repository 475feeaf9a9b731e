"""A run that goes on: bitwise where it was, on other devices, after any end."""

import json
import resource
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

import fedjax_edu as fe
from fedjax_edu.study import Checkpoints, Run, Saving
from fedjax_edu.study.run import CHECKPOINTS
from tests.study.run.small import PARAMS, ROUNDS, assert_same_bits, bits, build, contents, loss, make, population


def test_a_run_is_its_engine(straight, engine):
    """Chunks, reports and checkpoints change nothing."""
    expected, info = engine.run(engine.init(PARAMS, seed=5), ROUNDS)
    _, state, history = straight
    assert_same_bits(state, expected)
    np.testing.assert_array_equal([record["loss"] for record in history.rounds], info.loss.astype(float))
    assert [number for number, _ in history.curve] == [3, 6]
    assert history.total("participants") == info.participants.sum()


@pytest.mark.parametrize("first", range(1, ROUNDS))
def test_resumed_at_any_round_it_is_bitwise_the_straight_run(straight, engine, tmp_path, first):
    """Each half has an engine of its own once; the others share one, which has no memory."""
    folder, expected, _ = straight
    make(tmp_path, build() if first == 1 else engine, saving=Saving(rounds=1)).train(first)
    state, found = make(tmp_path, build() if first == 1 else engine, saving=Saving(rounds=1)).train(ROUNDS)
    assert_same_bits(state, expected)
    lines, straight_lines = ((path / "metrics.jsonl").read_bytes().splitlines() for path in (tmp_path, folder))
    scored_at_its_end = first if first % 3 else None  # a run that was to have so many rounds was scored after the last
    assert [line for number, line in enumerate(lines, 1) if number != scored_at_its_end] == [
        line for number, line in enumerate(straight_lines, 1) if number != scored_at_its_end
    ]
    assert len(found.rounds) == ROUNDS
    starts = [json.loads(line) for line in (tmp_path / "starts.jsonl").read_text().splitlines()]
    assert [start["round"] for start in starts] == [0, first]
    assert {"command", "commit", "versions", "hardware", "date"} < set(starts[0])


def test_streamed_rows_and_states_on_the_host_go_on_too(tmp_path):
    streamed = build(resident_bytes=6000, client_states="host")
    expected, _ = make(tmp_path / "straight", streamed).train(ROUNDS)
    for rounds in (3, ROUNDS):
        state, _ = make(tmp_path / "resumed", streamed).train(rounds)
    assert_same_bits(state, expected)
    assert (tmp_path / "resumed" / "metrics.jsonl").read_bytes() == (tmp_path / "straight" / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("devices", [(8, 1), (1, 4), (8, 4)])
def test_other_devices_go_on_within_rounding(straight, tmp_path, devices):
    for rounds, count in zip((3, ROUNDS), devices, strict=True):
        state, _ = make(tmp_path, build(devices=count)).train(rounds)
    for one, other in zip(bits(state), bits(straight[1]), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state.clients)} == {devices[1]}


def test_lanes_are_measured_once(tmp_path, monkeypatch):
    """A checkpoint has them; the run that goes on asks nobody."""
    from fedjax_edu.engine import engine as module
    from fedjax_edu.engine.tuning import Choice

    def make_engine():
        return fe.Engine(
            population(),
            fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(0.05), local=fe.LocalTraining(epochs=1, batch_size=4)),
            cohort=fe.cohorts.uniform(24),
            aggregator=fe.aggregation.mean(),
            plan=fe.ExecutionPlan(chunk=4),
        )

    monkeypatch.setattr(module, "choose", lambda *_: Choice(3, "asked"))
    first = make_engine()
    make(tmp_path, first).train(2)
    assert first.layout.lanes == 3
    monkeypatch.setattr(module, "choose", lambda *_: pytest.fail("measured again"))
    second = make_engine()
    make(tmp_path, second).train(3)
    assert second.layout.lanes == 3


def test_the_last_and_the_best_are_kept(engine, tmp_path):
    """Also by a process that did not save them."""
    for rounds in range(1, ROUNDS + 1):
        run = make(tmp_path, engine, saving=Saving(rounds=1, last=2, best=1))
        _, history = run.train(rounds)
    losses = [record["loss"] for record in history.rounds]
    with Checkpoints(tmp_path / CHECKPOINTS) as checkpoints:
        assert checkpoints.best == 1 + int(np.argmin(losses))
        assert checkpoints.newest == ROUNDS
    kept = {int(path.name) for path in (tmp_path / CHECKPOINTS).iterdir() if path.name.isdigit()}
    assert kept == {ROUNDS - 1, ROUNDS, 1 + int(np.argmin(losses))}
    assert int(run.restore().round) == ROUNDS
    assert int(run.restore(ROUNDS - 1).round) == ROUNDS - 1
    with pytest.raises(fe.errors.CheckpointError, match=r"^round: got 77; use one of "):
        run.restore(77)


def test_it_saves_by_the_clock(engine, tmp_path):
    run = make(tmp_path, engine, saving=Saving(rounds=1000, seconds=1e-9, last=10), report=2)
    run.train(5)
    assert sorted(int(path.name) for path in (tmp_path / CHECKPOINTS).iterdir() if path.name.isdigit()) == [2, 4, 5]


def test_records_after_the_checkpoint_are_taken_back(straight, halfway, engine):
    with (halfway / "metrics.jsonl").open("a") as file:
        file.write('{"round": 5, "loss": 1.0}\n{"round": 6, "lo')
    make(halfway, engine).train(ROUNDS)
    assert len((halfway / "metrics.jsonl").read_text().splitlines()) == ROUNDS


def test_a_full_disk_loses_no_checkpoint(halfway, straight, engine):
    """A limit on the size of files stands for it: writes beyond fail as on a full disk."""
    before = contents(halfway / CHECKPOINTS)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        with pytest.raises(fe.errors.CheckpointError, match=r"make room, or .*; what was complete is as it was"):
            make(halfway, engine).train(ROUNDS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert {path: content for path, content in contents(halfway / CHECKPOINTS).items() if path in before} == before
    state, _ = make(halfway, engine).train(ROUNDS)
    assert_same_bits(state, straight[1])


def test_a_process_killed_while_it_deletes_leaves_no_half_checkpoint(engine, tmp_path, monkeypatch):
    """Old checkpoints are moved away at once, whole; what was moved goes when the folder is opened next."""
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_sweep", lambda self, names: None)
        make(tmp_path, engine, saving=Saving(rounds=1, last=1, best=0)).train(3)
    assert sorted(path.name for path in (tmp_path / CHECKPOINTS / "deleted").iterdir()) == ["1", "2"]
    with Checkpoints(tmp_path / CHECKPOINTS) as checkpoints:
        assert checkpoints.rounds == [3]
        checkpoints.sweep()
    assert [path.name for path in (tmp_path / CHECKPOINTS).iterdir()] == ["3"]


def test_what_a_killed_process_left_unfinished_is_removed(halfway, engine):
    unfinished = halfway / CHECKPOINTS / "6.orbax-checkpoint-tmp"
    shutil.copytree(halfway / CHECKPOINTS / "4" / "state", unfinished / "state")
    with Checkpoints(halfway / CHECKPOINTS) as checkpoints:
        assert checkpoints.rounds == [2, 4]
    assert unfinished.exists()  # somebody may be writing it: to read changes nothing
    make(halfway, engine).train(ROUNDS)
    assert not unfinished.exists()


def test_to_read_disturbs_no_run_that_is_writing(engine, tmp_path):
    """A score that restores checkpoints, while the next is on its way."""
    other = make(tmp_path, engine)

    def score(state):
        return {"newest": float(other.restore().round) if int(state.round) > 2 else 0.0}

    run = make(tmp_path, engine, saving=Saving(rounds=1), report=1, score=score)
    state, history = run.train(6)
    assert int(state.round) == 6
    assert [value["newest"] for _, value in history.curve][-1] >= 4


def test_scores_may_be_arrays_of_jax(engine, tmp_path):
    _, history = make(tmp_path, engine, score=lambda state: {"sum": jnp.sum(state.params["network"]["w"])}).train(1)
    assert isinstance(history.curve[0][1]["sum"], float)


def test_another_run_may_overwrite_where_it_is_told_to(halfway, engine):
    state, history = make(halfway, engine, config={"rate": 0.1}, overwrite=True).train(2)
    assert (int(state.round), len(history.rounds)) == (2, 2)
    assert len((halfway / "starts.jsonl").read_text().splitlines()) == 1
    assert sorted(int(path.name) for path in (halfway / CHECKPOINTS).iterdir() if path.name.isdigit()) == [2]


def test_checkpoints_on_another_disk_are_emptied_there(engine, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CHECKPOINTS).symlink_to(tmp_path / "disk")
    make(tmp_path / "run", engine).train(2)
    assert (tmp_path / "disk" / "2").exists()
    run = Run(engine, PARAMS, tmp_path / "run", seed=9, saving=Saving(rounds=3), console=Console(quiet=True), overwrite=True)
    run.train(3)
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["3"]
    assert (tmp_path / "run" / CHECKPOINTS).is_symlink()
