"""The benchmark's parts: the workload, the models, floors, reports, rivals' processes. Nothing here measures speed."""

import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_edu as fe
from experiments.benchmarks import fresh, measure, models, ours, report, workload
from experiments.benchmarks.errors import BenchmarkError
from experiments.benchmarks.floors import FLOORS, describe, judge
from experiments.benchmarks.measure import Spread
from experiments.benchmarks.peers import environments, rivals
from experiments.benchmarks.results import Measured, Options, Panel, Table, together
from experiments.benchmarks.suites import SUITES, cpu, peers
from experiments.benchmarks.timing import Runner, time_all

ROOT = Path(__file__).resolve().parents[2]


# The workload


@pytest.mark.parametrize("model", workload.MODELS)
def test_the_same_seed_gives_the_same_workload(model):
    first, second, other = (workload.make(model, clients=5, seed=seed) for seed in (1, 1, 2))
    for name in ("x", "y"):
        np.testing.assert_array_equal(first.arrays[name], second.arrays[name])
        np.testing.assert_array_equal(first.held_out[name], second.held_out[name])
    assert first.arrays["x"].shape != other.arrays["x"].shape or not np.array_equal(first.arrays["x"], other.arrays["x"])


def test_clients_have_the_sizes_that_are_promised():
    sizes = workload.client_sizes(np.random.default_rng(0), 4000)
    assert (sizes.min(), sizes.max()) == (16, 400)
    assert 105 < sizes.mean() < 118
    assert 70 < np.median(sizes) < 100  # a long tail


def test_images_are_skewed_for_clients_and_balanced_when_held_out():
    clients = workload.make("mlp", clients=40)
    assert clients.arrays["x"].shape == (clients.offsets[-1], 784)
    assert clients.arrays["x"].dtype == np.float32
    labels = [set(clients.arrays["y"][start:stop]) for start, stop in zip(clients.offsets, clients.offsets[1:], strict=False)]
    assert np.mean([len(found) for found in labels]) < 30
    np.testing.assert_array_equal(np.bincount(clients.held_out["y"]), 33)
    assert len(clients.held_out["y"]) == 2046


def test_sequences_are_shifted_by_one_and_can_be_learnt():
    clients = workload.make("transformer", clients=40)
    assert clients.sizes.min() >= 2
    np.testing.assert_array_equal(clients.arrays["x"][:, 1:], clients.arrays["y"][:, :-1])
    followers = np.zeros((workload.VOCABULARY, workload.VOCABULARY))
    np.add.at(followers, (clients.arrays["x"], clients.arrays["y"]), 1)
    told = np.mean(followers.argmax(axis=1)[clients.held_out["x"]] == clients.held_out["y"])
    assert told > 5 / workload.VOCABULARY  # the commonest follower of a token, against a guess


def test_batches_are_in_stored_order_and_the_last_is_short():
    clients = workload.make("mlp", clients=3)
    batches = clients.batches(1)
    assert clients.sizes[1] == 139
    assert [len(y) for _, y in batches] == [20, 20, 20, 20, 20, 20, 19]
    rows = slice(*clients.offsets[1:3])
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), clients.arrays["x"][rows])


def test_a_workload_survives_its_file(tmp_path):
    clients = workload.make("transformer", clients=3)
    clients.save(tmp_path / "clients.npz")
    read = workload.Workload.load(tmp_path / "clients.npz")
    assert read.model == "transformer"
    for name in ("x", "y"):
        np.testing.assert_array_equal(read.arrays[name], clients.arrays[name])
        np.testing.assert_array_equal(read.held_out[name], clients.held_out[name])
    np.testing.assert_array_equal(read.offsets, clients.offsets)


def test_operations_are_counted_by_hand():
    assert workload.flops("mlp") == 2 * (2 * 784 * 200 + 3 * 200 * 200 + 3 * 200 * 62)
    first, second = 28 * 28 * 25 * 32, 14 * 14 * 25 * 32 * 64
    assert workload.flops("cnn") == 2 * (2 * first + 3 * (second + 7 * 7 * 64 * 512 + 512 * 62))
    layer = 64 * (128 * 3 * 128 + 128 * 128 + 2 * 128 * 512) + 2 * 64 * 64 * 128
    assert workload.flops("transformer") == 2 * 3 * (4 * layer + 64 * 128 * 90)


def test_small_clients_are_small_and_many():
    clients = fresh.small_clients(500)
    assert len(clients.sizes) == 500
    assert clients.sizes.min() >= 4
    assert clients.sizes.max() <= 20
    assert len(clients.arrays["x"]) == clients.offsets[-1]


# The models


def rough(model):
    """Weights away from their start, where biases and scales are 0 and 1."""
    random = np.random.default_rng(3)
    return {name: value + 0.1 * random.normal(size=value.shape).astype(np.float32) for name, value in workload.start(model).items()}


@pytest.mark.parametrize("model", workload.MODELS)
def test_our_losses_are_those_of_the_definition(model):
    clients, params = workload.make(model, clients=2), rough(model)
    batch = {name: array[:6] for name, array in clients.arrays.items()}
    logits = workload.logits(model, params, batch["x"]).astype(float)
    likelihoods = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = -np.take_along_axis(likelihoods, batch["y"][..., None], axis=-1).reshape(6, -1).mean(axis=1)
    found = jax.jit(lambda params, batch: models.losses(model, params, batch, fe.models.conv2d))(params, batch)
    np.testing.assert_allclose(found, expected, rtol=2e-4)


@pytest.mark.parametrize("model", workload.MODELS)
def test_slopes_are_those_of_the_definition(model):
    """Along one direction, against a difference of the losses in double precision."""
    clients, params = workload.make(model, clients=2), rough(model)
    batch = {name: array[:3] for name, array in clients.arrays.items()}
    random = np.random.default_rng(4)
    direction = {name: random.normal(size=value.shape) for name, value in params.items()}

    def loss(step):
        moved = {name: value + step * direction[name] for name, value in params.items()}
        logits = workload.logits(model, moved, batch["x"])
        likelihoods = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return -np.take_along_axis(likelihoods, batch["y"][..., None], axis=-1).mean()

    slope = jax.grad(lambda params: jnp.mean(models.losses(model, params, batch, fe.models.conv2d)))(params)
    found = sum(float(np.sum(np.asarray(slope[name], float) * direction[name])) for name in params)
    assert found == pytest.approx((loss(1e-5) - loss(-1e-5)) / 2e-5, rel=0.01)


def test_accuracy_and_norm_by_hand():
    params = {name: np.zeros_like(value) for name, value in workload.start("mlp").items()}
    params["bias_2"][5] = 2.0  # always says 5
    held_out = workload.make("mlp", clients=1).held_out
    assert workload.accuracy("mlp", params, held_out) == pytest.approx(1 / 62)
    assert workload.norm(params) == 2.0


def test_the_schedule_is_what_our_engine_trains():
    clients = workload.make("mlp", clients=6)
    cohorts = ours.cohorts(clients, 3, rounds=2)
    engine, state = ours.build(clients, 3, lanes=1)
    _, info = engine.run(state, rounds=2)
    assert cohorts.shape == (2, 3)
    np.testing.assert_array_equal(clients.sizes[cohorts].sum(axis=1), info.examples)


# Measuring


def test_measurements_take_turns():
    seen = []

    def work(name):
        return lambda: seen.append(name) or [1.0, 3.0]

    assert measure.interleave({"a": work("a"), "b": work("b")}, repeats=2) == {"a": [2.0, 2.0], "b": [2.0, 2.0]}
    assert seen == ["a", "b", "b", "a"]


def test_a_spread_of_one_repeat():
    assert measure.spread([2.0]) == Spread(2.0, 2.0, 2.0, 2.0, 1)


def test_memory_of_this_process_and_its_children():
    own = measure.peak_bytes()
    assert own is None or own >= measure.resident_bytes() > 1e7
    assert measure.peak_bytes(2**22 + 1) is None  # no such process


def test_the_peak_of_small_products():
    ((size, speed),) = measure.matmul_peak(sizes=(64,), tries=1).items()
    assert size == 64
    assert speed > 0


def test_useful_work_leaves_padding_out():
    clients = workload.make("mlp", clients=4)
    runner = Runner(clients, 4, 2, lanes=2)
    timing = time_all({"one": runner}, "mlp", repeats=1, memory=True)["one"]
    assert timing.examples == clients.sizes.sum()
    assert timing.flops_per_second == pytest.approx(clients.sizes.sum() * workload.flops("mlp") / timing.round.median)
    assert timing.lanes == 1  # there are more devices than clients
    assert timing.memory["peak"] > 0


def test_the_losing_case_deals_the_same_examples():
    sizes = cpu.giant()
    assert sizes["giant"].sum() == sizes["even"].sum()
    assert sizes["giant"].max() * 2 > sizes["giant"].sum()


# Floors

FIGURES = [
    ("mlp/32/over fedjax", 3.3),
    ("mlp/512/over pfl 2 processes", 2.5),
    ("mlp/128/over flower", 12.0),
    ("cnn/32/over fedjax", 1.8),
    ("cnn/32/over the best rival", 0.75),
    ("transformer/32/over the best PyTorch loop", 1.0),
    ("cnn/32/accuracy gap", 1.5),
    ("mlp/512/scaffold over fedavg", 1.35),
    ("mlp/128/share of peak", 0.6),
    ("lanes/cnn/auto over the best", 1.1),
    ("experts/1/one-hot over slots, capacity 1.25 (ours)", 3.0),
    ("experts/8/one-hot over blocks (ours)", 1.0),
    ("adapting/low-rank over full, seconds", 1.0),
    ("lacking/half over all", 0.65),
    ("transformer/share of peak", 0.5),
    ("time per client/dearest over cheapest", 1.1),
    ("memory/2048 over 32", 1.1),
    ("collectives/largest over smallest", 1.0),
    ("compile/cold seconds", 10.0),
    ("compile/cached seconds", 3.0),
    ("streaming/memory maps over resident", 0.8),
    ("lazy clients/cost over few", 1.15),
    ("lazy clients/memory, end over a tenth", 1.05),
    ("personal heads/device bytes over those of a tenth", 1.01),
    ("personal heads/resident bytes of a byte of heads", 1.25),
    ("sweep/one after another over members", 1.5),
    ("sweep/processes over members", 3.0),
    ("sweep/gap of members", 1e-6),
]


@pytest.mark.parametrize(("floor", "figure", "bound"), [(floor, *figure) for floor, figure in zip(FLOORS, FIGURES, strict=True)])
def test_a_floor_fails_when_it_should(floor, figure, bound):
    def passed(value):
        (verdict,) = [one for one in judge(floor.suite, {figure: value}, (0, 11)) if one.floor == floor]
        return verdict.passed

    worse, better = (1.001, 0.999) if floor.at_most else (0.999, 1.001)
    assert passed(bound * better)
    assert passed(bound)
    assert not passed(bound * worse)
    assert not passed(math.nan)


def test_a_floor_looks_at_every_figure_that_it_is_about():
    found = judge("peers", {"mlp/32/over fedjax": 4.0, "mlp/512/over fedjax": 3.0, "cnn/32/over fedjax jit": 9.0}, (0, 10))
    assert [(one.figure, one.passed) for one in found[:3]] == [
        ("mlp/32/over fedjax", True),
        ("mlp/512/over fedjax", False),
        ("not measured", None),
    ]


def test_a_floor_of_a_later_jax_is_not_asked_of_this_one():
    (verdict,) = [one for one in judge("cpu", {"mlp/128/share of peak": 0.1}, (0, 10)) if one.floor.jax > (0, 0)]
    assert verdict.passed is None
    assert describe(verdict) == ("MLP, share of the matmul peak", "at least 0.6", "–", "asked from JAX 0.11 on")


# Rivals, on paper


def entry(seconds, accuracy=0.5):
    return peers.Entry(Spread(seconds, seconds / 2, seconds, seconds, 7), 1.0, 2.0, accuracy, 25.0, None)


def test_ratios_are_of_medians_and_against_the_best_of_a_family():
    entries = {
        "ours": entry(1.0),
        "fedjax jit": entry(5.0, accuracy=0.6),
        "fedjax pmap": entry(4.0, accuracy=0.55),
        "pfl 2 processes": entry(3.0, accuracy=0.51),
        "torch 1 thread": entry(2.0, accuracy=0.48),
        "torch 2 processes": entry(0.8, accuracy=0.5),
    }
    found = peers.report("cnn", 32, entries)
    expected = {
        "over fedjax": 4.0,
        "over pfl 2 processes": 3.0,
        "over the best PyTorch loop": 0.8,
        "over the best rival": 0.8,
        "accuracy gap": 2.0,
        "accuracy gap of fedjax": 10.0,
    }
    assert found.figures == pytest.approx({f"cnn/32/{name}": value for name, value in expected.items()})
    assert [row[0] for row in found.tables[0].rows] == sorted(entries, key=lambda name: entries[name].round.median)
    assert [row[3] for row in found.tables[0].rows] == ["0.80", "–", "2.00", "3.00", "4.00", "5.00"]


def test_every_rival_is_pinned_and_no_package_index_is_named():
    needed = {rival.environment for rival in rivals.RIVALS.values()} - {None}
    files = {path.stem.removeprefix("requirements-"): path.read_text() for path in environments.HERE.glob("requirements-*.txt")}
    assert set(files) == needed
    for lines in files.values():
        assert all(len(line.split("==")) == 2 and "+" not in line and "/" not in line for line in lines.splitlines())


# Rivals' processes


@pytest.fixture
def start(tmp_path):
    """Starts the fake rival in a variant."""
    data, cohorts = tmp_path / "workload.npz", tmp_path / "cohorts.npy"
    workload.make("mlp", clients=2).save(data)
    np.save(cohorts, np.zeros((9, 2), int))

    def begin(variant):
        fake = rivals.Rival("tests.experiments.fake_worker", variant, None)
        return rivals.Process("fake", Path(sys.executable), fake, data=data, cohorts=cohorts, log=tmp_path / "fake.log")

    return begin


@pytest.mark.parametrize("variant", ["alone", "together"])
def test_a_rival_trains_when_it_is_told_to(start, tmp_path, variant):
    with start(variant) as process:
        assert len(process.train(2)) == 2
        assert all(seconds >= 0 for seconds in process.train(3))
        params = process.params(tmp_path / "params.npz")
        assert (process.peak_bytes() or math.inf) > 1e6
    np.testing.assert_array_equal(params["rounds"], [5])
    np.testing.assert_array_equal(params["start"], workload.start("mlp")["weight_0"])
    assert "a framework says something" in (tmp_path / "fake.log").read_text()


def test_a_rival_that_dies_is_named_with_its_last_words(start):
    with start("crash") as process, pytest.raises(BenchmarkError) as error:
        process.train(1)
    assert str(error.value).startswith("fake: its process ended; the end of ")
    assert "out of luck" in str(error.value)


def test_an_environment_is_made_once(tmp_path, monkeypatch):
    commands = []

    def run(command, **_):
        commands.append(command)
        (tmp_path / "pfl").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(environments, "_interpreter", lambda: "python3.11")
    monkeypatch.setattr(environments.subprocess, "run", run)
    python = environments.prepare("pfl", tmp_path)
    assert python == tmp_path / "pfl" / "bin" / "python"
    assert [command[2] for command in commands] == ["venv", "pip"]
    assert environments.prepare("pfl", tmp_path) == python
    assert len(commands) == 2
    (tmp_path / "pfl" / environments.STAMP).write_text("of older requirements")
    environments.prepare("pfl", tmp_path)
    assert len(commands) == 4


def test_an_environment_that_cannot_be_made_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "_interpreter", lambda: "python3.11")
    done = subprocess.CompletedProcess([], 1, "", "no matching distribution")
    monkeypatch.setattr(environments.subprocess, "run", lambda command, **_: done)
    with pytest.raises(BenchmarkError, match=r"the environment of flwr: .* ended with 1:\nno matching distribution"):
        environments.prepare("flwr", tmp_path)


# Reports

MADE_UP = Measured(
    measurements={"speed": {"mlp": 1.0}},
    figures={"mlp/32/scaffold over fedavg": 2.0},
    tables=(Table("Rounds", ("model", "round"), (("mlp", "31 ms"), ("transformer", "1.2 s")), "A note."),),
    panels=(Panel("Rounds", "seconds", {"mlp": Spread(1.0, 0.8, 0.9, 1.1, 7)}),),
)


def test_a_report_holds_everything_that_a_figure_depends_on(tmp_path):
    verdicts = judge("cpu", MADE_UP.figures, (0, 10))
    report.write(tmp_path, "cpu", MADE_UP, verdicts, report.machine(["python", "-m", "experiments.benchmark", "--suite=cpu"]))
    document = json.loads((tmp_path / "cpu.json").read_text())
    assert document["figures"] == MADE_UP.figures
    assert document["machine"]["versions"]["jax"] == jax.__version__
    assert {"date", "command", "commit", "processor", "cores"} < set(document["machine"])
    assert document["floors"][0]["passed"] is False
    page = (tmp_path / "cpu.md").read_text()
    assert "python -m experiments.benchmark --suite=cpu" in page
    assert "| transformer | 1.2 s |" in page
    assert "| mlp         | 31 ms |" in page
    assert "A note." in page
    assert "mlp/32/scaffold over fedavg = 2" in page
    assert "FAILS" in page
    assert str(Path.home()) not in page
    assert (tmp_path / "cpu.png").read_bytes().startswith(b"\x89PNG")


def test_parts_are_put_together_in_order():
    other = Measured(figures={"b": 1.0}, tables=(Table("Other", ("a",), ()),))
    both = together([MADE_UP, other])
    assert both.figures == MADE_UP.figures | {"b": 1.0}
    assert [table.title for table in both.tables] == ["Rounds", "Other"]
    assert both.measurements == MADE_UP.measurements


def test_every_floor_belongs_to_a_suite():
    assert {floor.suite for floor in FLOORS} == set(SUITES)


# The program


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite=cpu", "--models=mlp,fly"], "ConfigError: models: got fly; use any of mlp, cnn, transformer"),
        (["--suite=peers", "--rivals=nobody"], "ConfigError: rivals: got nobody; use any of ours, fedjax jit, "),
        (["--suite=cpu", "--cohorts=32,4000"], "ConfigError: cohorts: got '4000'; use integers from 1 to 1024"),
        (["--suite=cpu", "--repeats=3", "--check"], "ConfigError: repeats: got 3; use 7 or more with --check"),
    ],
)
def test_a_mistake_ends_the_program_with_one_line(arguments, message):
    command = [sys.executable, "-m", "experiments.benchmark", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(message)
    assert "Traceback" not in done.stderr


INTERRUPTED = """
from absl import app
from experiments import benchmark
from tests.experiments.test_benchmark import MADE_UP

def interrupted(options):
    yield MADE_UP
    raise SystemExit(3)

benchmark.SUITES["cpu"] = interrupted
app.run(benchmark.main)
"""


def test_what_a_suite_has_found_is_kept_when_it_is_interrupted(tmp_path):
    command = [sys.executable, "-c", INTERRUPTED, "--suite=cpu", f"--workdir={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3, done.stderr
    assert "| transformer | 1.2 s |" in done.stdout
    assert json.loads((tmp_path / "cpu.json").read_text())["figures"] == MADE_UP.figures


def test_rivals_are_reported_cohort_by_cohort(tmp_path, monkeypatch):
    entries = {name: entry(seconds) for name, seconds in {"ours": 1.0, "fedjax jit": 3.0}.items()}
    measured = []
    monkeypatch.setattr(peers, "interpreters", lambda options: {})
    monkeypatch.setattr(peers, "_compete", lambda options, clients, cohort, *_: measured.append(cohort) or entries)
    options = Options(("mlp",), (32, 128), ("fedjax jit",), 1, tmp_path, tmp_path, print)
    found = peers.compare(options)
    assert next(found).figures["mlp/32/over fedjax"] == 3.0
    assert measured == [32]
    assert list(next(found).measurements) == ["mlp/128"]
