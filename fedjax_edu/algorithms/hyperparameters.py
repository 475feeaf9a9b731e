"""Hyper-parameters of optimisers as leaves of a state, where a sweep can set them without compiling anew."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Hyperparameters = dict[str, jax.Array]


def of(optimizer: optax.GradientTransformation, params: Any) -> Hyperparameters:
    """What ``optax.inject_hyperparams`` made visible in an optimiser, by name; schedules are left out, they set themselves.

    A name that two parts of the optimiser use is numbered: learning_rate, learning_rate1.

    >>> import jax.numpy as jnp
    >>> optimizer = optax.chain(optax.clip(1.0), optax.inject_hyperparams(optax.sgd)(learning_rate=0.5))
    >>> {name: float(value) for name, value in of(optimizer, jnp.zeros(2)).items()}
    {'learning_rate': 0.5}
    """
    with jax.numpy_dtype_promotion("standard"):
        state = optimizer.init(params)
    found: Hyperparameters = {}
    for part in filter(_injected, jax.tree.leaves(state, is_leaf=_injected)):
        for name in _free(part):
            found[_numbered(name, found)] = part.hyperparams[name]
    return found


def put(state: optax.OptState, values: Hyperparameters) -> optax.OptState:
    """The optimiser's state with these hyper-parameters."""
    if not values:
        return state
    used: Hyperparameters = {}

    def replace(part: Any) -> Any:
        if not _injected(part):
            return part
        new = {}
        for name in _free(part):
            numbered = _numbered(name, used)
            new[name] = used[numbered] = values[numbered]
        return part._replace(hyperparams=part.hyperparams | new)

    return jax.tree.map(replace, state, is_leaf=_injected)


def _injected(part: Any) -> bool:
    return hasattr(part, "hyperparams")


def _free(part: Any) -> list[str]:
    return [name for name in part.hyperparams if name not in part.hyperparams_states]


def _numbered(name: str, taken: Hyperparameters) -> str:
    count = sum(other.rstrip("0123456789") == name for other in taken)
    return f"{name}{count or ''}"


def rate(optimizer: optax.GradientTransformation, values: Hyperparameters) -> jax.Array:
    """The learning rate of plain SGD: its step along a gradient of 1.

    >>> float(rate(optax.sgd(0.25), {}))
    0.25
    """
    one = jnp.ones(())
    with jax.numpy_dtype_promotion("standard"):
        step, _ = optimizer.update(one, put(optimizer.init(one), values), one)
    return -step


def is_plain_sgd(optimizer: optax.GradientTransformation) -> bool:
    """Whether a step is the gradient times one negative number, whatever the size of the gradient, the parameters and the steps before.

    An optimiser that remembers anything is taken for another; what one that does not does is tried out.

    >>> is_plain_sgd(optax.sgd(0.1)), is_plain_sgd(optax.sgd(0.1, momentum=0.9)), is_plain_sgd(optax.chain(optax.clip(1.0), optax.sgd(0.1)))
    (True, False, False)
    """
    gradient, params = jnp.array([1.0, -2.0, 3.0]), jnp.array([5.0, 0.0, -7.0])
    try:
        with jax.numpy_dtype_promotion("standard"):
            state = optimizer.init(params)
            steps = [optimizer.update(size * gradient, state, params)[0] / size for size in (1.0, 1e-6, 1e6)]
    except (AttributeError, LookupError, TypeError, ValueError):
        return False  # made for the model's own tree
    parts = jax.tree.leaves(state, is_leaf=_injected)
    if not all(_injected(part) and not part.hyperparams_states and not jax.tree.leaves(part.inner_state) for part in parts):
        return False
    factors = np.stack(steps) / np.asarray(gradient)
    return bool((factors < 0).all() and np.allclose(factors, factors[0, 0], rtol=1e-5))
