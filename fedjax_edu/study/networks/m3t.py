"""The multi-modal multi-task network: records and histories, experts, a head for each task."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core.loss import Loss
from fedjax_edu.core.trees import Tree
from fedjax_edu.data import Population
from fedjax_edu.models.building import Binary, Regression, Size, m3t
from fedjax_edu.models.function import functional
from fedjax_edu.models.losses import Wanted, make_loss
from fedjax_edu.models.transformer import TransformerConfig
from fedjax_edu.study.networks.contents import Contents
from fedjax_edu.study.networks.network import Network


class MultiModal(Network):
    """:func:`fedjax_edu.models.m3t` on records and histories.

    Its arguments are those of :class:`fedjax_edu.models.TransformerConfig`, for the transformers of encoders and of the fusion, with
    `width` of tokens and, instead of `layers`, `encoder_layers` and `fusion_layers`.
    """

    def _build(self, seed: int) -> Tree:
        self._contents = Contents(self.encoding)
        arguments = dict(self.arguments)
        width, *layers = (arguments.pop(name) for name in ("width", "encoder_layers", "fusion_layers"))
        encoders, fusion = (TransformerConfig(layers=count, **arguments) for count in layers)
        heads = {task.name: Binary() if task.binary else Regression() for task in self.encoding.schema.tasks}
        self.model = m3t(self._contents.parts, heads, Size(width=width, encoders=encoders, fusion=fusion), seed)
        self._apply, params = functional(self.model)
        return params

    def leaves(self, population: Population) -> dict[str, Any]:
        """``contents`` by modality."""
        return {"contents": self._contents.of(population)}

    def loss(self, weights: np.ndarray) -> Callable[..., Loss]:
        """The sum of the tasks' losses, and what experts ask for."""
        of_model = make_loss(self._apply, self.model.heads, dict(zip(self.tasks, weights.tolist(), strict=True)))

        def loss(params: Tree, batch: dict[str, Any], key: jax.Array, *, valid: jax.Array) -> Loss:
            columns = zip(self.tasks, batch["targets"].T, batch["present"].T > 0, strict=True)
            wanted = {task: Wanted(targets, present) for task, targets, present in columns}
            return of_model(params, {"contents": batch["contents"], "wanted": wanted}, key, valid=valid)

        return loss

    def predict(self, params: Tree, batch: dict[str, Any]) -> jax.Array:
        """Float32 [B, tasks]."""
        outputs = self._apply(params, batch["contents"]).outputs
        return jnp.stack([outputs[task] for task in self.tasks], axis=1)
