"""A Flax module as the engine wants it: a pure function and a tree of arrays whose top level names the modules."""

from collections.abc import Callable
from typing import Any

from flax import nnx, traverse_util

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.low_rank import LOW_RANK
from fedjax_edu.core.trees import Tree
from fedjax_edu.models.corrections import AdapterParam, PromptParam

Path = tuple[Any, ...]
GATHERED = {nnx.LoRAParam: LOW_RANK, AdapterParam: "adapters", PromptParam: "prompts"}  # kind of parameter -> top level of the tree


def functional(model: nnx.Module) -> tuple[Callable[..., Any], Tree]:
    """Splits a model once into structure and parameters.

    Low-rank matrices, adapters and prompts stand under ``lora``, ``adapters`` and ``prompts``, then by the path of the layer that they
    belong to, so that ``fe.modules.assign(params, shared="lora", frozen=...)`` trains them alone.

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
    variables = dict(nnx.to_flat_state(params))
    places = {_place(path, variable): path for path, variable in variables.items()}

    def apply(params: Tree, *args: Any, **kwargs: Any) -> Any:
        leaves = traverse_util.flatten_dict(params)
        tree = traverse_util.unflatten_dict({path: leaves[place] for place, path in places.items()})
        return nnx.merge(structure, nnx.State(tree))(*args, **kwargs)

    return apply, traverse_util.unflatten_dict({place: variables[path].get_value() for place, path in places.items()})


def _place(path: Path, variable: Any) -> Path:
    """Where a parameter stands in the tree."""
    return (GATHERED[type(variable)], *path) if type(variable) in GATHERED else path
