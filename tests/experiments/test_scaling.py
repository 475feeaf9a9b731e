"""The parts of the scaling suite, on few clients: what they make, what they make sure of, the figures that they report."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedjax_edu as fe
from experiments.benchmarks import fresh, heads, lazy, members, ours, workload
from experiments.benchmarks.errors import BenchmarkError
from experiments.benchmarks.measure import Spread
from experiments.benchmarks.results import Options
from experiments.benchmarks.suites import many_clients, streaming, sweeping


@pytest.fixture
def options(tmp_path):
    return Options((), (), (), 1, tmp_path, tmp_path, say=lambda text: None)


def steady(seconds):
    return Spread(seconds, seconds, seconds, seconds, 3)


# Streaming


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    return streaming.mapped(tmp_path_factory.mktemp("maps"), 2 * streaming.DISTINCT)


def test_mapped_clients_repeat_and_stay_in_their_files(mapped):
    few = workload.make("mlp", clients=streaming.DISTINCT)
    assert all(isinstance(array, np.memmap) for array in mapped.arrays.values())
    for client in (0, 5, 127):
        for again in (client, client + streaming.DISTINCT):
            rows = slice(*mapped.offsets[again : again + 2])
            np.testing.assert_array_equal(mapped.arrays["x"][rows], few.arrays["x"][slice(*few.offsets[client : client + 2])])
    assert mapped.offsets[-1] == len(mapped.arrays["y"]) == 2 * few.offsets[-1]


def test_records_hold_the_rows_of_the_arrays(mapped, tmp_path):
    population = streaming.recorded(mapped, tmp_path / "clients")
    found = population.rows_of(np.array([200, 3, 128]))
    for name, array in mapped.arrays.items():
        expected = np.concatenate([array[slice(*mapped.offsets[client : client + 2])] for client in (200, 3, 128)])
        np.testing.assert_array_equal(found[name], expected)
    assert streaming.bytes_of(population) == mapped.arrays["x"].nbytes + mapped.arrays["y"].nbytes


def test_streaming_ends_where_resident_rows_do(mapped, tmp_path):
    runners = streaming.make_runners(mapped, tmp_path, cohort=8, rounds=3, lanes=1)
    streaming.check_same(runners)
    runners["records"]()
    with pytest.raises(BenchmarkError, match="other parameters"):
        streaming.check_same(runners)
    resident = runners["resident"].engine
    half, _ = ours.build(mapped, 8, lanes=1, resident_bytes=streaming.bytes_of(resident.population) // 2)
    for engine in (resident, half):
        with pytest.raises(BenchmarkError, match="not 20 times"):
            streaming.check_larger(engine)


# Lazy clients


def test_a_lazy_client_is_the_same_whenever_it_is_asked_for():
    together = lazy.load(np.array([7, 3]))
    for name in ("x", "y"):
        np.testing.assert_array_equal(together[name], np.concatenate([lazy.load(np.array([one]))[name] for one in (7, 3)]))
    assert len(np.unique(lazy.load(np.arange(40))["x"], axis=0)) == lazy.sizes_of(np.arange(40)).sum()


def test_clients_count_how_often_they_take_part():
    visits = lazy.Visits(16, cohort=8)
    visits(3)
    np.testing.assert_array_equal(visits.counts(), [2] * 8 + [1] * 8)


def test_everyone_is_visited_as_often_as_promised():
    found = lazy.measure(32, 16, cohort=8, turns=2)
    assert [len(found[name]) for name in ("many", "few", "peak", "resident")] == [2, 2, 2, 2]
    with pytest.raises(BenchmarkError, match="clients took part 0 to 2 times instead of 1"):
        lazy.check_counts(np.array([1.0, 2.0, 0.0, 1.0]), 1)


def test_figures_of_lazy_clients(options, monkeypatch):
    found = {"many": [3.0, 2.0, 4.0], "few": [2.0, 2.0, 2.0], "peak": [100, 101, 102], "resident": [100, 90, 104]}
    monkeypatch.setattr(many_clients, "in_fresh_process", lambda *_: found)
    figures = many_clients.lazy_clients(options).figures
    assert figures == {"lazy clients/cost over few": 1.5, "lazy clients/memory, end over a tenth": 1.04}
    found["peak"] = found["resident"] = [None] * 3  # a system that does not tell
    assert set(many_clients.lazy_clients(options).figures) == {"lazy clients/cost over few"}


# Personal heads


def test_heads_are_their_clients_own():
    found = heads.measure(16, 2, cohort=8, turns=1)
    assert found["heads"] == 16 * heads.HIDDEN * 2 * 4
    assert found["device"] > 0


def test_a_head_is_compared_with_that_of_a_lone_client():
    params = heads.start(2)
    engine = heads.build(fe.data.Population.from_loader(lazy.load, lazy.sizes_of(np.arange(9))), fe.cohorts.round_robin(3), params)
    state, _ = engine.run(engine.init(params), rounds=1)
    heads.check_lone(engine, state, params, np.array([1]))
    with pytest.raises(BenchmarkError, match="client 5 has another head"):
        heads.check_lone(engine, state, params, np.array([1, 5]))  # its turn comes in the second round


def test_a_head_that_is_not_its_clients_is_noticed():
    first = np.ones((3, 2), np.float32)
    own = first + np.arange(1, 5, dtype=np.float32).reshape(4, 1, 1) * np.array([[1], [2], [4]], np.float32)
    heads.check_own(own, first)
    with pytest.raises(BenchmarkError, match="1 heads are as they were"):
        heads.check_own(np.concatenate([own, first[None]]), first)
    with pytest.raises(BenchmarkError, match="4 of 5 differ"):
        heads.check_own(np.concatenate([own, own[:1]]), first)


def test_figures_of_heads(options, monkeypatch):
    of = {
        100_000: {"heads": 1000, "device": 101, "resident": [5, 1300], "peak": 9, "seconds": [1.0]},
        10_000: {"heads": 100, "device": 100, "resident": [5, 220], "peak": 9, "seconds": [1.0]},
    }
    monkeypatch.setattr(many_clients, "in_fresh_process", lambda options, work, count, outputs: of[count])
    assert many_clients.personal_heads(options).figures == {
        "personal heads/device bytes over those of a tenth": 1.01,
        "personal heads/resident bytes of a byte of heads": 1.2,
    }


# Sweeps


def test_members_are_their_lone_runs_and_the_gap_is_relative():
    population = fe.data.Population.from_arrays({"y": np.arange(6.0)}, offsets=[0, 2, 6])
    algorithm = fe.algorithms.fedavg(
        lambda params, batch, key: 0.5 * (params["mean"] - batch["y"]) ** 2,
        client_optimizer=optax.sgd(0.3),
        local=fe.LocalTraining(epochs=1, batch_size=2),
    )
    engine = fe.Engine(population, algorithm, cohort=fe.cohorts.uniform(1), aggregator=fe.aggregation.mean())
    start = engine.init({"mean": jnp.zeros(())})
    stacked, lone = members.together(engine, start, 3, 2), members.alone(engine, start, 3, 2)
    assert members.gap(stacked, lone) < 1e-6
    further = members.together(engine, start, 3, 3)
    expected = max(abs(float(further.params["mean"][seed] / lone[seed].params["mean"]) - 1) for seed in range(3))
    assert members.gap(further, lone) == pytest.approx(expected, rel=1e-5)
    assert expected > 1e-3


def test_figures_of_a_sweep_take_the_faster_way_to_run_processes(options, monkeypatch):
    inside = {"members": steady(2.0), "one after another": steady(3.0)}
    whole = {"members": steady(10.0), "one process": steady(2.0), "two processes": steady(3.0)}
    monkeypatch.setattr(sweeping, "in_one_process", lambda options: (inside, 1e-7))
    monkeypatch.setattr(sweeping, "as_processes", lambda options: whole)
    assert sweeping.sweeping(options).figures == {
        "sweep/one after another over members": 1.5,
        "sweep/processes over members": 16 * 3.0 / 10.0,
        "sweep/gap of members": 1e-7,
    }
    whole["two processes"] = steady(9.0)
    assert sweeping.sweeping(options).figures["sweep/processes over members"] == 32 * 2.0 / 10.0


# Fresh processes


def test_a_process_that_fails_is_an_error_with_its_last_words(options):
    with pytest.raises(BenchmarkError, match=r"memory: ended with 1:\n(.|\n)*cohort: got 4000"):
        fresh.in_fresh_process(options, "memory", 4000)
