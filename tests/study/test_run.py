"""A run that goes on: bitwise where it was, on other devices, after any end, and never over somebody else's."""

import gc
import io
import json
import os
import resource
import shutil
import signal
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from rich.console import Console

import fedjax_edu as fe
from fedjax_edu.study import Checkpoints, Run, Saving, Stopped
from fedjax_edu.study.run import CHECKPOINTS
from fedjax_edu.study.stopping import stoppable

ROUNDS = 6
RANDOM = np.random.default_rng(0)
SIZES = RANDOM.integers(1, 12, 24)
PARAMS = {"network": {"w": np.zeros((3, 1), np.float32)}, "offset": np.zeros((), np.float32)}


X = RANDOM.normal(size=(SIZES.sum(), 3)).astype(np.float32)
Y = X @ np.array([1, -2, 0.5], np.float32) + 1


def population(scale=1):
    return fe.data.Population.from_arrays({"x": X, "y": np.float32(scale) * Y}, offsets=np.concatenate([[0], np.cumsum(SIZES)]))


def loss(params, batch, key):
    noise = 0.1 * jax.random.normal(key, batch["y"].shape)
    return 0.5 * ((batch["x"] @ params["network"]["w"])[:, 0] + params["offset"] + noise - batch["y"]) ** 2


def build(*, devices=2, algorithm=fe.algorithms.scaffold, clients=None, **plan):
    """Everything that has a state: control variates, moments, residuals, personal leaves, a sampler that learns."""
    clients = population() if clients is None else clients
    return fe.Engine(
        clients,
        algorithm(
            loss,
            client_optimizer=optax.sgd(0.05),
            server_optimizer=optax.adam(0.1),
            local=fe.LocalTraining(epochs=1, batch_size=4),
            weighting="uniform",
        ),
        cohort=fe.cohorts.oort(8),
        aggregator=fe.aggregation.chain(fe.aggregation.topk(0.5), fe.aggregation.mean()),
        modules=fe.modules.assign(PARAMS, personal="offset"),
        plan=fe.ExecutionPlan(lanes=2, mesh=jax.make_mesh((devices,), ("clients",), axis_types=(AxisType.Auto,)), chunk=4, **plan),
    )


def make(folder, engine=None, *, console=None, **options):
    settings = {"saving": Saving(rounds=2, last=10), "report": 3, "score": lambda state: {"w": float(state.params["network"]["w"][0, 0])}}
    return Run(engine or build(), PARAMS, folder, seed=5, console=console or Console(quiet=True), **(settings | options))


def bits(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))]


def assert_same_bits(found, expected):
    for one, other in zip(bits(found), bits(expected), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(autouse=True)
def nothing_is_left_to_other_tests():
    """Readers of damaged files that Orbax no longer waits for are collected here, and not while something else is going on."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    state, history = make(folder).train(ROUNDS)
    return folder, state, history


@pytest.fixture(scope="module")
def engine():
    return build()


# Going on


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


# Signals


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 138)])
def test_a_signal_saves_and_leaves_with_a_code(straight, engine, tmp_path, name, code):
    folder, expected, _ = straight
    signum, text = getattr(signal, name), io.StringIO()
    before = signal.getsignal(signum)

    def score(state):
        if int(state.round) == 3 and not raised:
            raised.append(True)
            signal.raise_signal(signum)
        return {"w": float(state.params["network"]["w"][0, 0])}

    raised = []
    with pytest.raises(Stopped) as stopped:
        make(tmp_path, engine, score=score, console=Console(file=text, width=200)).train(ROUNDS)
    assert stopped.value.code == code
    assert signal.getsignal(signum) is before
    assert f"{name} after round 3, which is saved" in text.getvalue()
    assert text.getvalue() == (tmp_path / "log.txt").read_text()
    state, _ = make(tmp_path, engine, score=score).train(ROUNDS)
    assert json.loads((tmp_path / "starts.jsonl").read_text().splitlines()[-1])["round"] == 3
    assert_same_bits(state, expected)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()


def test_a_second_ctrl_c_interrupts_at_once():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts jobs in its background with the signal ignored
    try:
        with stoppable(Console(quiet=True)) as requests:
            signal.raise_signal(signal.SIGINT)
            assert requests.signal == signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


# What it refuses


@pytest.fixture
def halfway(engine, tmp_path):
    make(tmp_path, engine).train(4)
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: make(folder, config={"rate": 0.1}), r"config\.rate was missing and is 0\.1"),
        (lambda folder: make(folder, build(clients=population(2.0))), r"data\.digest was \w+ and is \w+"),
        (lambda folder: Run(build(), PARAMS, folder, seed=6), r"seed was 5 and is 6"),
    ],
    ids=["configuration", "data", "seed"],
)
def test_another_run_is_refused_and_nothing_is_changed(halfway, change, message):
    before = contents(halfway)
    with pytest.raises(fe.errors.CheckpointError, match=rf"^workdir: got .*run\.json is of another run; .*{message}"):
        change(halfway).train(ROUNDS)
    assert contents(halfway) == before


def test_another_run_may_overwrite_where_it_is_told_to(halfway, engine):
    state, history = make(halfway, engine, config={"rate": 0.1}, overwrite=True).train(2)
    assert (int(state.round), len(history.rounds)) == (2, 2)
    assert len((halfway / "starts.jsonl").read_text().splitlines()) == 1
    assert sorted(int(path.name) for path in (halfway / CHECKPOINTS).iterdir() if path.name.isdigit()) == [2]


def test_another_algorithm_is_told_by_its_state(halfway):
    before = contents(halfway)
    with pytest.raises(fe.errors.CheckpointError, match=r"checkpoint: got .*/4; use the model, algorithm and population.* and is missing"):
        make(halfway, build(algorithm=fe.algorithms.fedavg)).train(ROUNDS)
    after = contents(halfway)
    assert {path: after[path] for path in before if path.name != "log.txt"} == {p: before[p] for p in before if p.name != "log.txt"}


def test_a_foreign_checkpoint_is_refused(halfway, engine, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    Run(engine, PARAMS, other, seed=8, saving=Saving(rounds=2), console=Console(quiet=True)).train(6)
    shutil.copytree(other / CHECKPOINTS / "6", halfway / CHECKPOINTS / "6")
    with pytest.raises(fe.errors.CheckpointError, match=r"checkpoints/6 is of another run; .*seed was 8 and is 5"):
        make(halfway, engine).train(ROUNDS)


def test_a_newer_checkpoint_is_refused(halfway, engine):
    path = halfway / CHECKPOINTS / "4" / "facts" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(fe.errors.CheckpointError, match=r"/4; use a newer fedjax_edu: it has format 99"):
        make(halfway, engine).train(ROUNDS)


def test_truncated_files_are_refused_by_name(halfway, engine):
    """Whatever file of a checkpoint is cut, nothing wrong is ever read."""
    expected = bits(make(halfway, engine).restore(4))
    originals = {path: path.read_bytes() for path in (halfway / CHECKPOINTS / "4").rglob("*") if path.is_file() and path.stat().st_size}
    assert len(originals) > 5
    refused = []
    for path, content in originals.items():
        path.write_bytes(content[: len(content) // 2])
        try:
            found = bits(make(halfway, engine).restore(4))
        except fe.errors.CheckpointError as error:
            refused.append(str(error))
        else:
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)
        path.write_bytes(content)
    assert len(refused) >= 3
    for message in refused:
        assert f"{CHECKPOINTS}/4" in message
        assert "remove that folder to go on from round 2" in message


def test_records_that_lack_rounds_are_refused(halfway, engine):
    path = halfway / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(fe.errors.CheckpointError, match=r"^metrics\.jsonl: got 2 rounds; put back its lines up to round 4"):
        make(halfway, engine).train(ROUNDS)


def test_records_after_the_checkpoint_are_taken_back(straight, halfway, engine):
    with (halfway / "metrics.jsonl").open("a") as file:
        file.write('{"round": 5, "loss": 1.0}\n{"round": 6, "lo')
    make(halfway, engine).train(ROUNDS)
    assert len((halfway / "metrics.jsonl").read_text().splitlines()) == ROUNDS


def test_a_second_process_is_refused(halfway, engine):
    run = make(halfway, engine)
    with run.folder.locked(), pytest.raises(fe.errors.ArgumentError, match=r"^workdir: got .*; name another folder: a process is running"):
        make(halfway, engine).train(ROUNDS)
    make(halfway, engine).train(ROUNDS)


def test_results_of_an_unknown_run_are_refused(engine, tmp_path):
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(fe.errors.CheckpointError, match=r"its metrics\.jsonl is of an unknown run"):
        make(tmp_path, engine).train(1)
    assert (tmp_path / "metrics.jsonl").read_text() == "{}\n"


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


def test_a_refused_start_changes_nothing(halfway, engine):
    for name in ("run.json", "metrics.jsonl"):
        (halfway / name).unlink()
    before = contents(halfway)
    with pytest.raises(fe.errors.CheckpointError, match="of another run"):
        Run(engine, PARAMS, halfway, seed=9, console=Console(quiet=True)).train(ROUNDS)
    assert contents(halfway) == before


@pytest.mark.parametrize("line", ["\0\0\0\n", "[]\n", '{"round": 7}\n', "\udc80\n"])
def test_a_line_that_is_not_the_record_of_its_round_is_refused(halfway, engine, line):
    path = halfway / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_bytes("".join([lines[0], line, *lines[2:]]).encode(errors="surrogateescape"))
    with pytest.raises(fe.errors.CheckpointError, match=r"^metrics\.jsonl: got line 2: .*; put back its lines up to round 4"):
        make(halfway, engine).train(ROUNDS)


@pytest.mark.parametrize("content", ["[]", '"x"', "3"])
def test_an_identity_that_is_none_is_refused(halfway, engine, content):
    (halfway / "run.json").write_text(content)
    with pytest.raises(fe.errors.CheckpointError, match=r"where run\.json is of another run"):
        make(halfway, engine).train(ROUNDS)


def test_a_run_outlives_its_terminal(engine, tmp_path):
    class Gone:
        def print(self, *objects, **style):
            raise SystemExit(1)  # what Rich does when its pipe is broken

    state, _ = make(tmp_path, engine, console=Gone()).train(3)
    assert int(state.round) == 3
    assert "round    3 of 3" in (tmp_path / "log.txt").read_text()


def test_a_signal_while_the_last_save_is_written_ends_the_run(engine, tmp_path, monkeypatch):
    wait, waits = Checkpoints.wait, []

    def late(self):
        waits.append(wait(self))
        if len(waits) == 1:  # at the end
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Checkpoints, "wait", late)
    with pytest.raises(fe.study.Stopped):
        make(tmp_path, engine, saving=Saving(rounds=3)).train(3)


def test_scores_may_be_arrays_of_jax(engine, tmp_path):
    _, history = make(tmp_path, engine, score=lambda state: {"sum": jnp.sum(state.params["network"]["w"])}).train(1)
    assert isinstance(history.curve[0][1]["sum"], float)


def test_a_folder_that_cannot_be_written(engine):
    with pytest.raises(fe.errors.ArgumentError, match=r"^workdir: got /dev/null/run; "):
        make(Path("/dev/null/run"), engine)


def test_a_run_whose_folder_was_removed_leaves_the_next_one_alone(engine, tmp_path):
    """Somebody removes the folder of a run that is going on, and starts another one there."""
    folder = tmp_path / "run"

    def score(state):
        if int(state.round) == 3 and not (tmp_path / "begun").exists():
            (tmp_path / "begun").touch()
            shutil.rmtree(folder)
            make(folder, build()).train(3)
        return {}

    with pytest.raises(fe.errors.CheckpointError, match="start the run again: the folder was removed while it was going on"):
        make(folder, engine, score=score, saving=Saving(rounds=100)).train(ROUNDS)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_second_thread_is_refused(engine, tmp_path):
    run, refused = make(tmp_path, engine), []

    def again():
        with pytest.raises(fe.errors.ArgumentError, match="a process is running in this one"):
            run.train(1)
        refused.append(True)

    with run.folder.locked():
        thread = threading.Thread(target=again)
        thread.start()
        thread.join()
    assert refused == [True]


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


def test_a_configuration_that_json_cannot_hold_is_refused_before_anything(engine, tmp_path):
    with pytest.raises(fe.errors.ConfigError, match=r"^config\.model\.act: got .*sqrt.*; use numbers, words, lists"):
        make(tmp_path, engine, config={"model": {"act": np.sqrt}})
    assert not list(tmp_path.iterdir())


def test_parameters_that_are_no_arrays_are_refused_before_anything(engine, tmp_path):
    with pytest.raises(fe.errors.ArgumentError, match=r"^params\.offset: got 0\.0; use arrays as leaves"):
        Run(engine, PARAMS | {"offset": 0.0}, tmp_path, console=Console(quiet=True))
    assert not list(tmp_path.iterdir())
