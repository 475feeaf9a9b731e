"""The whole model in a federation: six modalities, six kinds of tasks, most of them absent somewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fedjax_edu as fe
from fedjax_edu.models import building, heads
from fedjax_edu.models.encoders.features import Stamped
from fedjax_edu.models.encoders.sequence import Interactions
from fedjax_edu.models.encoders.tabular import Record
from fedjax_edu.models.losses import Wanted, expert_metrics, make_loss
from fedjax_edu.models.multimodal import Content
from fedjax_edu.models.transformer import TransformerConfig

SIZE = building.Size(
    width=8, encoders=TransformerConfig(layers=1, heads=2, hidden=1.0), fusion=TransformerConfig(layers=1, heads=2, hidden=1.0, experts=4)
)
MODALITIES = {
    "tabular": building.Tabular((0, 3, 0)),
    "sequence": building.Sequence(items=5, steps=4),
    "text": building.Text(vocabulary=20, steps=6),
    "image": building.Image(4, 4, 1, patch=2),
    "audio": building.Audio(patch=2, rate=4000),
    "features": building.Features(inputs=3),
}
TASKS = {
    "passed": building.Binary(),
    "score": building.Regression(),
    "major": building.Categorical(3),
    "grade": building.Ordinal(4),
    "answers": building.NextResponse(items=5),
    "order": building.Ranking(),
}
SIZES = (7, 1, 12, 4)  # of clients; with batches of four rows some are padded


@pytest.fixture(scope="module")
def model():
    return fe.models.m3t(MODALITIES, TASKS, SIZE, seed=0)


def rows(count, seed=0):
    """Everything about some rows; content that is absent is NaN or a number that no table has."""
    random = np.random.default_rng(seed)

    def normal(*shape):
        return random.normal(size=(count, *shape)).astype(np.float32)

    def there(*shape):
        return random.random((count, *shape)) < 0.6

    lengths = random.integers(1, 5, size=count).astype(np.int32)
    values = {
        "tabular": Record(np.stack([normal(), random.integers(3, size=count), normal()], axis=1).astype(np.float32)),
        "sequence": Interactions(random.integers(5, size=(count, 4)).astype(np.int32), normal(4), np.abs(normal(4))),
        "text": random.integers(20, size=(count, 6)).astype(np.int32),
        "image": normal(4, 4, 1),
        "audio": 0.3 * normal(400),
        "features": Stamped(normal(4, 3), np.abs(normal(4))),
    }
    contents = {
        name: Content(value, there(), lengths if name in ("sequence", "text", "features") else None) for name, value in values.items()
    }
    contents["tabular"] = Content(values["tabular"], there(3))
    wanted = {
        "passed": random.integers(2, size=count).astype(np.float32),
        "score": normal(),
        "major": random.integers(3, size=count).astype(np.int32),
        "grade": random.integers(4, size=count).astype(np.int32),
        "answers": random.integers(2, size=(count, 4)).astype(np.float32),
        "order": heads.Ranked(normal(), np.zeros(count, np.int32)),
    }
    steps = contents["sequence"].present[:, None] & (np.arange(4) < lengths[:, None])
    present = {task: steps if task == "answers" else there() for task in wanted}
    return {"contents": contents, "wanted": {task: Wanted(value, present[task]) for task, value in wanted.items()}}


@pytest.fixture(scope="module")
def population():
    return fe.data.Population.from_arrays(rows(sum(SIZES)), np.concatenate([[0], np.cumsum(SIZES)]))


def engine_of(population, model, lanes=2):
    apply, params = fe.models.functional(model)
    algorithm = fe.algorithms.fedavg(
        make_loss(apply, model.heads, {"score": 0.5}), client_optimizer=optax.sgd(0.05), local=fe.LocalTraining(epochs=2, batch_size=4)
    )
    engine = fe.Engine(
        population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean(), plan=fe.ExecutionPlan(lanes=lanes)
    )
    return engine, engine.init(params, seed=0)


SOME = ("tabular", "sequence"), ("passed", "score", "answers")  # enough for what is about the engine


@pytest.fixture(scope="module")
def small():
    modalities, tasks = SOME
    return fe.models.m3t({name: MODALITIES[name] for name in modalities}, {task: TASKS[task] for task in tasks}, SIZE)


@pytest.fixture(scope="module")
def learnt(small, population):
    modalities, tasks = SOME
    arrays = {"contents": {name: population.arrays["contents"][name] for name in modalities}}
    arrays["wanted"] = {task: population.arrays["wanted"][task] for task in tasks}
    part = fe.data.Population.from_arrays(arrays, population.offsets)
    return {lanes: engine.run(state, rounds=8) for lanes in (1, 4) for engine, state in [engine_of(part, small, lanes)]}


def test_a_federation_learns_every_task(learnt):
    _, info = learnt[1]
    for task in SOME[1]:
        assert info.metrics[task][-1] < info.metrics[task][0]
    assert not np.any(info.rejected)
    loads = np.stack([info.metrics[f"fusion.layers.0.load.{expert}"] for expert in range(4)], axis=1)
    np.testing.assert_allclose(loads.sum(axis=1), 1.0, rtol=1e-5)
    assert np.all(info.metrics["fusion.layers.0.entropy"] <= np.log(4) + 1e-6)
    assert not np.any(info.metrics["fusion.layers.0.dropped"])


def test_every_expert_has_tokens_that_are_counted(small, population):
    """Experts of encoders and of the fusion are found with the metrics that count their tokens."""
    size = building.Size(width=8, encoders=SIZE.fusion, fusion=SIZE.fusion)
    model = fe.models.m3t(MODALITIES, {"passed": TASKS["passed"]}, size)
    found = fe.models.expert_leaves(model)
    params = dict(fe.core.trees.named_leaves(fe.models.functional(model)[1]))
    experts = {path for path, leaf in params.items() if ".feed_forward." in path and leaf.ndim and len(leaf) == 4 and ".router" not in path}
    assert set(found) == {path for path in experts if not path.endswith("order")} and len(found) > 4
    report = jax.eval_shape(lambda contents: model(contents).report, rows(2)["contents"])
    assert set(found.values()) == set(report)


def test_lanes_do_not_change_it(learnt):
    for one, two in zip(*(jax.tree.leaves(state.params) for state, _ in learnt.values()), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-2, atol=1e-4)


def loss_of(model):
    apply, params = fe.models.functional(model)
    loss = make_loss(apply, model.heads)

    def total(params, batch, valid):
        out = loss(params, batch, jax.random.key(0), valid=valid)
        return jnp.where(valid, out.per_example, 0.0).sum() + out.regulariser, out

    return jax.jit(jax.value_and_grad(total, has_aux=True)), params


def test_padding_reaches_no_expert_no_task_and_no_statistic(model):
    slope_of, params = loss_of(model)
    batch, other = rows(6), rows(6, seed=1)
    valid = jnp.arange(6) < 4
    poisoned = jax.tree.map(
        lambda ours, theirs: np.where((np.arange(6) < 4).reshape((-1,) + (1,) * (ours.ndim - 1)), ours, theirs), batch, other
    )
    (clean, out), slope = slope_of(params, batch, valid)
    (dirty, other_out), other_slope = slope_of(params, poisoned, valid)
    assert float(clean) == float(dirty)
    for one, two in zip(jax.tree.leaves(slope), jax.tree.leaves(other_slope), strict=True):
        np.testing.assert_array_equal(one, two)
    for name, (values, weights) in out.metrics.items():
        np.testing.assert_array_equal(values[:4], other_out.metrics[name][0][:4])
        assert not np.any(weights[4:])


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_modality_that_is_absent_leaves_its_encoder_alone(model, modality):
    slope_of, params = loss_of(model)
    batch = rows(6)
    content = batch["contents"][modality]
    batch["contents"][modality] = content._replace(present=np.zeros_like(content.present))
    _, slope = slope_of(params, batch, jnp.ones(6, bool))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slope["encoders"][modality]))
    assert all(any(np.any(leaf) for leaf in jax.tree.leaves(tree)) for name, tree in slope["encoders"].items() if name != modality)


def test_lanes_share_a_condition_on_what_any_of_them_has(small):
    """Where lanes are mapped, an encoder that none of them needs stays out: a ``cond`` on all of them, not a ``select`` in each."""
    modalities, tasks = SOME
    apply, params = fe.models.functional(small)
    loss = make_loss(apply, small.heads)

    def slope(batch):
        return jax.grad(lambda params: loss(params, batch, jax.random.key(0), valid=jnp.ones(3, bool)).per_example.sum())(params)

    def batch(seed):
        found = rows(3, seed)
        contents = {name: found["contents"][name] for name in modalities}
        if seed == 0:
            contents["sequence"] = contents["sequence"]._replace(present=np.zeros(3, bool))
        return {"contents": contents, "wanted": {task: found["wanted"][task] for task in tasks}}

    batches = [batch(seed) for seed in range(2)]
    lanes = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
    assert str(jax.make_jaxpr(jax.vmap(slope))(lanes)).count("= cond[") >= 2 * len(modalities)
    mapped = jax.jit(jax.vmap(slope))(lanes)
    for lane, alone in enumerate(batches):
        for one, two in zip(jax.tree.leaves(jax.jit(slope)(alone)), jax.tree.leaves(mapped), strict=True):
            np.testing.assert_allclose(one, two[lane], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_without_targets_leaves_its_head_alone(model, task):
    slope_of, params = loss_of(model)
    batch = rows(6)
    wanted = batch["wanted"][task]
    batch["wanted"][task] = wanted._replace(present=np.zeros_like(wanted.present))
    _, slope = slope_of(params, batch, jnp.ones(6, bool))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slope["heads"][task]))
    assert all(any(np.any(leaf) for leaf in jax.tree.leaves(tree)) for name, tree in slope["heads"].items() if name != task)


def test_the_loss_is_the_weighted_sum_of_its_tasks(model):
    apply, params = fe.models.functional(model)
    apply = jax.jit(apply)
    batch = rows(6)
    out = make_loss(apply, model.heads, {"score": 0.5, "order": 3.0})(params, batch, jax.random.key(0), valid=jnp.ones(6, bool))
    shares = {"score": 0.5, "order": 3.0}
    expected = sum(shares.get(task, 1.0) * out.metrics[task][0] for task in TASKS)
    np.testing.assert_allclose(out.per_example, expected, rtol=1e-5)
    report = apply(params, batch["contents"]).report
    assert float(out.regulariser) == pytest.approx(sum(float(routed.loss) for routed in report.values()), rel=1e-5)


def test_agreement_is_what_fedmvp_adds_to_the_loss(model):
    """Heads read each view alone; histories, which have a head of their own, are no part of the comparison; padding says nothing."""
    fusion = fe.models.JointFusion(list(model.encoders), 8, TransformerConfig(layers=1, heads=2), rngs=nnx.Rngs(1))
    apply, params = fe.models.functional(fe.models.M3T(dict(model.encoders), fusion, dict(model.heads)))
    apply, batch, valid = jax.jit(apply), rows(6), np.arange(6) < 5
    weights, key = {"score": 0.5}, jax.random.key(0)
    plain, asked = (
        jax.jit(make_loss(apply, model.heads, weights, one))(params, batch, key, valid=valid)
        for one in (None, fe.models.Agreement(matching=0.2, temperature=0.5, margin=2.0))
    )
    np.testing.assert_allclose(plain.per_example, asked.per_example, rtol=1e-6)
    contents = {name: one._replace(present=(one.present.T & valid).T) for name, one in batch["contents"].items()}
    answers = apply(params, contents)
    pooled = [task for task in TASKS if not isinstance(model.heads[task], fe.models.NextResponseHead)]

    def total(outputs):
        found = {}
        for task in pooled:
            wanted = batch["wanted"][task]
            found[task] = model.heads[task].losses(outputs[task], wanted.values, (wanted.present.T & valid).T)
        return sum(weights.get(task, 1.0) * values for task, values in found.items())

    joint, alone = answers.views
    losses = {name: total(outputs) for name, outputs in answers.alone.items()}
    expected = 0.2 * fe.models.contrastive_matching(joint, alone, temperature=0.5)
    expected += 2.0 * fe.models.aligned_margin(joint, total(answers.outputs), alone, losses, valid)
    assert len(losses) > 1 and all(set(outputs) == set(pooled) for outputs in answers.alone.values())
    assert float(asked.regulariser - plain.regulariser) == pytest.approx(float(expected), rel=1e-4)
    assert float(expected) > 0.1


def test_agreement_without_views_is_refused(model):
    apply, params = fe.models.functional(model)
    loss = make_loss(apply, model.heads, agreement=fe.models.Agreement())
    with pytest.raises(fe.errors.ArgumentError, match=r"^agreement: got .*; leave it out, or use a fusion with views"):
        loss(params, rows(2), jax.random.key(0), valid=jnp.ones(2, bool))


def test_means_of_expert_metrics_are_means_over_choices(model):
    apply, params = fe.models.functional(model)
    report = jax.jit(apply)(params, rows(6)["contents"]).report
    ((module, routed),) = report.items()
    found = expert_metrics(report)
    for expert in range(4):
        values, weights = found[f"{module}.load.{expert}"]
        assert float(values @ weights / weights.sum()) == pytest.approx(
            float(routed.choices[:, :, expert].sum() / routed.choices.sum()), rel=1e-5
        )
    values, weights = found[f"{module}.entropy"]
    tokens = np.asarray(routed.choices).sum(axis=2) > 0
    assert float(values @ weights / weights.sum()) == pytest.approx(float(np.asarray(routed.entropy)[tokens].mean()), rel=1e-5)


def test_some_modalities_are_enough(model):
    contents = {name: content for name, content in rows(3)["contents"].items() if name in ("tabular", "sequence")}
    answers = model(contents)
    assert answers.outputs["passed"].shape == (3,)
    assert set(answers.report) == {"fusion.layers.0"}


def test_without_a_history_no_next_answer_is_said(model):
    contents = {"tabular": rows(3)["contents"]["tabular"]}
    assert "answers" in TASKS and "answers" not in model(contents).outputs


def test_tasks_without_a_head_are_refused(model):
    apply, params = fe.models.functional(model)
    with pytest.raises(fe.errors.ArgumentError, match="weights: got scoer; use "):
        make_loss(apply, model.heads, {"scoer": 2.0})
    with pytest.raises(fe.errors.ArgumentError, match="weights\\['score'\\]: got nan; use a finite number"):
        make_loss(apply, model.heads, {"score": np.nan})
    batch, loss = rows(2), make_loss(apply, model.heads)
    batch["wanted"] = {"scoer": batch["wanted"]["score"]}
    with pytest.raises(fe.errors.ArgumentError, match="wanted: got scoer; use "):
        loss(params, batch, jax.random.key(0), valid=jnp.ones(2, bool))


def test_names_that_do_not_exist_are_refused(model):
    with pytest.raises(fe.errors.ArgumentError, match="contents: got nothing; give one of audio, features"):
        model({})
    with pytest.raises(fe.errors.ArgumentError, match="contents: got \\['video'\\]; use audio, features"):
        model({"video": rows(2)["contents"]["image"]})
    with pytest.raises(fe.errors.ArgumentError, match="encoders: got \\['tabular'\\]; add a modality `sequence`"):
        fe.models.m3t({"tabular": building.Tabular((0,))}, {"answers": building.NextResponse(3)}, SIZE)
    with pytest.raises(fe.errors.ArgumentError, match="size: got huge; use tiny, small, base, large, xl"):
        fe.models.m3t(MODALITIES, TASKS, "huge")
    with pytest.raises(fe.errors.ArgumentError, match="modalities, tasks: got"):
        fe.models.m3t({}, TASKS, SIZE)
