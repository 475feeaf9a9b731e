"""Every form of loss a user may write becomes the one form of the engine, or a typed error before anything runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_edu.core.errors import LossError
from fedjax_edu.core.loss import Loss, check, standardise

BATCH = jnp.arange(4.0)
VALID = jnp.array([True, True, True, False])
SEEN = (VALID.astype(jnp.float32), jnp.ones(4))


def standard(loss) -> Loss:
    return standardise(loss)(jnp.float32(3), BATCH, jax.random.key(0), VALID)


@pytest.mark.parametrize(
    ("loss", "regulariser", "metrics"),
    [
        (lambda params, batch, key: params * batch, 0.0, {}),
        (lambda params, batch, key: (params * batch, {"m": batch}), 0.0, {"m": (BATCH, jnp.ones(4))}),
        (lambda params, batch, key: Loss(params * batch, regulariser=params**2), 9.0, {}),
        (lambda params, batch, key: Loss(params * batch, metrics={"m": (batch, 2 * batch)}), 0.0, {"m": (BATCH, 2 * BATCH)}),
        (lambda params, batch, key, valid: (params * batch, {"v": valid.astype(jnp.float32)}), 0.0, {"v": SEEN}),
        (lambda params, batch, key, *, valid: (params * batch, {"v": valid.astype(jnp.float32)}), 0.0, {"v": SEEN}),
    ],
)
def test_forms_of_a_loss(loss, regulariser, metrics):
    found = standard(loss)
    np.testing.assert_array_equal(found.per_example, 3 * BATCH)
    assert float(found.regulariser) == regulariser
    assert set(found.metrics) == set(metrics)
    for name, (value, weight) in metrics.items():
        np.testing.assert_array_equal(found.metrics[name], (value, weight))


@pytest.mark.parametrize(
    ("loss", "argument"),
    [
        (lambda params, batch, key: jnp.mean(batch), "loss"),
        (lambda params, batch, key: batch[:2], "loss"),
        (lambda params, batch, key: batch[:, None], "loss"),
        (lambda params, batch, key: jnp.arange(4), "loss"),
        (lambda params, batch, key: Loss(batch, regulariser=batch), "loss.regulariser"),
        (lambda params, batch, key: (batch, {"m": jnp.sum(batch)}), "loss.metrics.m"),
        (lambda params, batch, key: (batch, {"m": (batch, jnp.sum(batch))}), "loss.metrics.m weights"),
    ],
)
def test_losses_that_cannot_work(loss, argument):
    with pytest.raises(LossError) as caught:
        check(standardise(loss), jnp.float32(3), jax.ShapeDtypeStruct((4,), jnp.float32), 4)
    assert caught.value.argument == argument


def test_a_good_loss_passes_without_running():
    def loss(params, batch, key):
        return Loss(params * batch, regulariser=params, metrics={"count": jnp.ones(4, jnp.int32)})

    shapes = check(standardise(loss), jnp.float32(3), jax.ShapeDtypeStruct((4,), jnp.float32), 4)
    assert shapes.per_example == jax.ShapeDtypeStruct((4,), jnp.float32)
