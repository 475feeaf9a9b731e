"""The convolution against XLA's own and against loops, with its gradients, wherever local training puts it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

import fedjax_edu as fe
from fedjax_edu.models.convolution import _as_matrix_product, _native, _tiles_are_quicker
from fedjax_edu.models.winograd import MOST_TAPS, products, winograd

SHAPES = [  # inputs, kernel: all forms of matrix products, even and lopsided kernels, one larger than the image
    ((2, 8, 9, 8), (3, 3, 8, 8)),
    ((3, 6, 5, 1), (5, 5, 1, 4)),
    ((2, 7, 6, 8), (5, 5, 8, 3)),
    ((2, 4, 5, 3), (2, 4, 3, 2)),
    ((1, 6, 4, 2), (3, 1, 2, 5)),
    ((2, 5, 5, 4), (1, 3, 4, 4)),
    ((1, 2, 3, 3), (7, 7, 3, 2)),
]
FORMS = [_as_matrix_product, _native, fe.models.conv2d]
SMALL = [shapes for shapes in SHAPES if max(shapes[1][:2]) <= MOST_TAPS]


def example(shapes, seed=0):
    random = np.random.default_rng(seed)
    return [jnp.asarray(random.normal(size=shape), jnp.float32) for shape in shapes]


def loops(inputs, kernel):
    """The definition, one product after another."""
    (batch, height, width, _), (rows, columns, _, outputs) = inputs.shape, kernel.shape
    result = np.zeros((batch, height, width, outputs))
    for h, w, i, j in np.ndindex(height, width, rows, columns):
        y, x = h + i - (rows - 1) // 2, w + j - (columns - 1) // 2
        if 0 <= y < height and 0 <= x < width:
            result[:, h, w] += inputs[:, y, x].astype(float) @ kernel[i, j].astype(float)
    return result


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shapes", SHAPES)
def test_values_are_those_of_the_definition(form, shapes):
    inputs, kernel = example(shapes)
    np.testing.assert_allclose(form(inputs, kernel), loops(np.asarray(inputs), np.asarray(kernel)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shapes", SMALL)
def test_tiles_give_the_values_and_gradients_of_the_definition(shapes):
    with jax.enable_x64(True):
        operands = example([*shapes, (*shapes[0][:3], shapes[1][3])])
        inputs, kernel, direction = (operand.astype(jnp.float64) for operand in operands)
        np.testing.assert_allclose(winograd(inputs, kernel), loops(np.asarray(inputs), np.asarray(kernel)), rtol=1e-11, atol=1e-11)
        found, theirs = (
            jax.grad(lambda *operands, form=form: jnp.sum(form(*operands) * direction), argnums=(0, 1))(inputs, kernel)
            for form in (winograd, _native)
        )
    for ours, wanted in zip(found, theirs, strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-10, atol=1e-10)


def test_tiles_keep_five_digits_of_float32():
    inputs, kernel = example([(20, 14, 14, 32), (5, 5, 32, 64)])
    wanted = np.asarray(_native(inputs, kernel))
    assert np.abs(np.asarray(winograd(inputs, kernel)) - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("shapes", SMALL)
def test_products_are_those_that_xla_counts(shapes):
    inputs, kernel = example(shapes)
    spent = jax.jit(winograd).lower(inputs, kernel).compile().cost_analysis()["flops"] / 2
    of_kernel = 64 * kernel.size  # whose transform is not counted: it does not grow with images
    needed = len(inputs) * products(shapes[0][1:], shapes[1])
    assert 0.98 * needed <= spent <= 1.02 * needed + of_kernel


def test_tiles_are_for_many_channels_small_kernels_and_all_digits():
    def taken(inputs, kernel, dtype=jnp.float32):
        return _tiles_are_quicker(jnp.zeros(inputs, dtype), jnp.zeros(kernel, dtype))

    assert taken((20, 14, 14, 32), (5, 5, 32, 64))
    assert not taken((20, 28, 28, 1), (5, 5, 1, 32))
    assert not taken((20, 0, 14, 32), (5, 5, 32, 64))
    assert not taken((20, 14, 14, 32), (7, 7, 32, 64))
    assert not taken((20, 14, 14, 32), (5, 5, 32, 64), jnp.bfloat16)


@pytest.mark.parametrize("shapes", SHAPES)
def test_gradients_are_those_of_xla(shapes):
    inputs, kernel = example(shapes)
    (direction,) = example([(*shapes[0][:3], shapes[1][3])], seed=1)

    def slope(form):
        return jax.grad(lambda *operands: jnp.sum(form(*operands) * direction), argnums=(0, 1))(inputs, kernel)

    for form in (_as_matrix_product, fe.models.conv2d):
        for ours, theirs in zip(slope(form), slope(_native), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def descend(form, inputs, kernels):
    """A few steps of gradient descent for each client, clients side by side, as lanes run them."""

    def client(inputs, kernel):
        step = jax.grad(lambda kernel: jnp.mean(form(inputs, kernel) ** 2))
        return lax.fori_loop(0, 3, lambda _, kernel: kernel - 0.1 * step(kernel), kernel)

    return jax.vmap(client)(inputs, kernels)


@pytest.mark.parametrize("shapes", SHAPES[:2])
def test_it_trains_in_a_loop_under_vmap_on_many_devices(shapes):
    inputs, kernels = example([(4, *shapes[0]), (4, *shapes[1])])
    mesh = jax.make_mesh((4,), ("clients",), devices=jax.devices()[:4], axis_types=(AxisType.Auto,))
    split = PartitionSpec("clients")
    train = jax.shard_map(partial(descend, fe.models.conv2d), mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
    np.testing.assert_allclose(jax.jit(train)(inputs, kernels), descend(_native, inputs, kernels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shapes", SHAPES[:2])
def test_on_cpus_no_convolution_and_no_branch_is_compiled(shapes):
    inputs, kernels = example([(2, *shapes[0]), (2, *shapes[1])])

    def compiled(form):
        return jax.jit(partial(descend, form)).lower(inputs, kernels).compile().as_text()

    assert "convolution(" in compiled(_native)
    assert "convolution(" not in compiled(fe.models.conv2d)
    assert "conditional(" not in compiled(fe.models.conv2d)


def test_an_empty_batch_and_one_of_any_size_are_batches_too():
    kernel = jnp.ones((5, 5, 16, 24))
    assert fe.models.conv2d(jnp.ones((0, 14, 14, 16)), kernel).shape == (0, 14, 14, 24)
    (batch,) = jax.export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, 14, 14, 16), jnp.float32)
    called = jax.export.export(jax.jit(fe.models.conv2d))(images, jax.typeof(kernel))
    inputs, kernel = example([(3, 14, 14, 16), kernel.shape])
    np.testing.assert_allclose(called.call(inputs, kernel), _native(inputs, kernel), rtol=1e-4, atol=1e-3)


def test_numbers_that_are_no_floats_of_one_type_are_refused():
    for inputs, kernel in ((jnp.uint8, jnp.float32), (jnp.float32, jnp.bfloat16)):
        with pytest.raises(fe.errors.ArgumentError, match="use floats of one type"):
            fe.models.conv2d(jnp.zeros((2, 5, 5, 1), inputs), jnp.zeros((3, 3, 1, 2), kernel))


@pytest.mark.parametrize(
    ("inputs", "kernel", "message"),
    [
        ((5, 5, 1), (3, 3, 1, 2), "inputs: got (5, 5, 1); use images"),
        ((2, 5, 5, 1), (3, 3, 2), "kernel: got (3, 3, 2); use [height, width, 1, outputs]"),
        ((2, 5, 5, 3), (3, 3, 1, 2), "kernel: got (3, 3, 1, 2); use [height, width, 3, outputs]"),
    ],
)
def test_shapes_that_do_not_fit_are_named(inputs, kernel, message):
    with pytest.raises(fe.errors.ArgumentError) as error:
        fe.models.conv2d(jnp.zeros(inputs), jnp.zeros(kernel))
    assert str(error.value).startswith(message)
