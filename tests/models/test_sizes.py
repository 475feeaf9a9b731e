"""Models in their real sizes, in a federation: a round of `small` with all six modalities, and a low-rank step of `base`."""

import jax
import numpy as np
import optax
import pytest

import fedjax_edu as fe
from fedjax_edu.models import corrections, entries
from fedjax_edu.models.encoders.features import Stamped
from fedjax_edu.models.encoders.sequence import Interactions
from fedjax_edu.models.encoders.tabular import Record
from fedjax_edu.models.losses import Wanted, make_loss
from fedjax_edu.models.multimodal import Content
from tests.models.test_registry import MODALITIES, TASKS

pytestmark = pytest.mark.slow
SIZES, STEPS = (2, 1), 6  # rows of the clients; of a history and a text


def population(modalities):
    """Three rows that have all of these modalities and all tasks."""
    count, random = sum(SIZES), np.random.default_rng(0)

    def normal(*shape):
        return random.normal(size=(count, *shape)).astype(np.float32)

    def whole(most, *shape):
        return random.integers(most, size=(count, *shape)).astype(np.int32)

    lengths = np.array([STEPS, 4, 5], np.int32)
    history = Interactions(whole(1000, STEPS), whole(2, STEPS).astype(np.float32), np.abs(normal(STEPS)))
    values = {
        "tabular": Record(np.concatenate([normal(20), whole(4, 10).astype(np.float32)], axis=1)),
        "sequence": history,
        "text": whole(30_522, STEPS),
        "image": normal(224, 224, 3),
        "audio": 0.1 * normal(4_000),
        "features": Stamped(normal(STEPS, 384), np.abs(normal(STEPS))),
    }
    there, long = np.ones(count, bool), ("sequence", "text", "features")
    contents = {name: Content(values[name], there, lengths if name in long else None) for name in modalities}
    contents["tabular"] = contents["tabular"]._replace(present=np.ones((count, 30), bool))
    wanted = {
        "passed": Wanted(whole(2).astype(np.float32), there),
        "score": Wanted(normal(), there),
        "answers": Wanted(history.responses, np.arange(STEPS) < lengths[:, None]),
    }
    return fe.data.Population.from_arrays({"contents": contents, "wanted": wanted}, np.concatenate([[0], np.cumsum(SIZES)]))


def one_round(model, modalities):
    """The parameters before and after, by module, and what the round says."""
    apply, params = fe.models.functional(model)
    algorithm = fe.algorithms.fedavg(
        make_loss(apply, model.heads), client_optimizer=optax.sgd(0.01), local=fe.LocalTraining(epochs=1, batch_size=2)
    )
    found = entries.registry(model)
    engine = fe.Engine(
        population(modalities),
        algorithm,
        cohort=fe.cohorts.everyone(),
        aggregator=fe.aggregation.mean(),
        modules=entries.modules_of(found),
        plan=fe.ExecutionPlan(lanes=1, mesh=jax.make_mesh((1,), ("clients",))),
    )
    state, info = engine.run(engine.init(params, seed=0), rounds=1)
    pairs = zip(found, jax.tree.leaves(params), jax.tree.leaves(state.params), strict=True)
    moved = {entry.module for entry, before, after in pairs if not np.array_equal(before, after)}
    return moved, info


def test_small_trains_a_round():
    moved, info = one_round(fe.models.m3t(MODALITIES, TASKS, "small"), MODALITIES)
    assert np.isfinite(info.loss).all()
    assert not np.any(info.rejected)
    assert {f"encoders.{name}" for name in MODALITIES} | {f"heads.{task}" for task in TASKS} | {"fusion", "fusion.experts"} <= moved


def test_base_takes_a_low_rank_step():
    read = ("tabular", "sequence", "text")
    model = fe.models.m3t({name: MODALITIES[name] for name in read}, TASKS, "base")
    corrections.add_low_rank(model, lambda path: path.endswith(("attention.query", "attention.value")), rank=4)
    moved, info = one_round(model, read)
    assert np.isfinite(info.loss).all()
    assert not np.any(info.rejected)
    assert {"lora.fusion", "lora.encoders.text", "lora.encoders.sequence"} <= moved
    assert all(name.startswith(("lora.", "heads.")) for name in moved)
