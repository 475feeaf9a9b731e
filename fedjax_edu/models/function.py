"""A Flax module as the engine wants it: a pure function and a tree of arrays whose top level names the modules."""

from collections.abc import Callable
from typing import Any

from flax import nnx

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.trees import Tree


def functional(model: nnx.Module) -> tuple[Callable[..., Any], Tree]:
    """Splits a model once into structure and parameters.

    Args:
        model: a Flax NNX module all of whose state is ``nnx.Param``.

    Returns:
        ``(apply, params)``: ``apply(params, *args)`` calls the model with those parameters and is safe to transform;
        `params` is a nested dict of arrays, so that dotted paths (``heads.math``) name its modules.

    Raises:
        ArgumentError: the model holds state that is no parameter (batch statistics, dropout counters).

    >>> apply, params = functional(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    >>> sorted(params), apply(params, nnx.initializers.ones(None, (4, 3))).shape
    (['bias', 'kernel'], (4, 2))
    """
    split: Any = nnx.split(model, nnx.Param, ...)
    structure, params, rest = split
    if rest:
        raise ArgumentError(
            "model", sorted(map(str, nnx.to_flat_state(rest).paths)), "keep only nnx.Param in it: clients share no other state"
        )

    def apply(params: Tree, *args: Any) -> Any:
        return nnx.merge(structure, nnx.State(params))(*args)

    return apply, nnx.to_pure_dict(params)
