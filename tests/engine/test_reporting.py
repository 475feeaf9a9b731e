"""What a run reports as a data frame, against the arrays it came from."""

import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

import fedjax_edu as fe

N, ROUNDS = 3, 4


def info_of(shape, **changes):
    """Every count is a number of its own, so that nothing can be mistaken for anything else."""
    rng = np.random.default_rng(0)
    names = ("loss", "participants", "rejected", "examples", "steps", "utilisation", "update_norm", "bytes_up", "bytes_down", "overflow")
    values = {name: rng.random(shape) for name in names}
    groups = {
        "metrics": {"accuracy": rng.random(shape)},
        "links": {"clip.share": rng.random(shape)},
        "algorithm": {"weights": rng.random((*shape, 2))},
        "cohort": {},
    }
    return fe.Info(**(values | groups | {"loss_after": None, "rejected_ids": None} | changes))


def test_a_row_is_a_round_and_names_have_dots():
    info = info_of((ROUNDS,))
    frame = info.to_pandas()
    assert frame.index.name == "round"
    assert frame.index.tolist() == [1, 2, 3, 4]
    assert frame["loss"].tolist() == info.loss.tolist()
    assert frame["metrics.accuracy"].tolist() == info.metrics["accuracy"].tolist()
    assert frame["links.clip.share"].tolist() == info.links["clip.share"].tolist()
    assert frame[["algorithm.weights.0", "algorithm.weights.1"]].to_numpy().tolist() == info.algorithm["weights"].tolist()
    assert "loss_after" not in frame and "cohort" not in frame
    assert info.to_pandas(first=11).index.tolist() == [11, 12, 13, 14]


def test_members_of_a_sweep_are_rows_of_their_own():
    info = info_of((ROUNDS, N))
    frame = info.to_pandas()
    assert frame.index.names == ["round", "member"]
    assert len(frame) == ROUNDS * N
    for number in range(ROUNDS):
        for member in range(N):
            row = frame.loc[(number + 1, member)]
            assert row["bytes_up"] == info.bytes_up[number, member]
            assert row["algorithm.weights.1"] == info.algorithm["weights"][number, member, 1]


def test_rejected_ids_are_those_of_clients():
    nobody = 2**32 - 1
    info = info_of((2,), rejected_ids=np.array([[7, nobody], [nobody, nobody]], np.uint32), loss_after=np.array([1.0, 2.0]))
    frame = info.to_pandas()
    assert [ids.tolist() for ids in frame["rejected_ids"]] == [[7], []]
    assert frame["loss_after"].tolist() == [1.0, 2.0]


def test_a_run_of_an_engine_becomes_a_frame():
    population = fe.data.Population.from_arrays({"y": np.arange(6.0, dtype=np.float32)}, offsets=[0, 2, 6])
    algorithm = fe.algorithms.fedavg(
        lambda params, batch, key: 0.5 * (params["mean"] - batch["y"]) ** 2,
        client_optimizer=optax.sgd(0.5),
        local=fe.LocalTraining(steps=1),
    )
    engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
    _, info = engine.run(engine.init({"mean": jnp.zeros(())}, 0), rounds=2)
    frame = info.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["participants"].tolist() == [2, 2]
    assert frame["loss"].to_numpy() == pytest.approx(info.loss)
