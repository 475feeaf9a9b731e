"""The multi-modal multi-task network: records, histories and texts, experts, a head for each task."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core.loss import Loss
from fedjax_edu.core.modules import Selector
from fedjax_edu.core.trees import Tree
from fedjax_edu.data import Feature, Population
from fedjax_edu.models.building import Binary, Phrases, Regression, Sentences, Size, m3t
from fedjax_edu.models.function import functional
from fedjax_edu.models.losses import Wanted, make_loss
from fedjax_edu.models.multimodal import Content
from fedjax_edu.models.transformer import TransformerConfig
from fedjax_edu.study.encoding import Encoding
from fedjax_edu.study.networks.contents import Contents
from fedjax_edu.study.networks.network import Network
from fedjax_edu.study.networks.words import Texts, phrases_of, texts_of, words_of

LANGUAGE = "language"  # folder of an exported model's text encoder


class MultiModal(Network):
    """:func:`fedjax_edu.models.m3t` on records, histories and texts.

    Its arguments are those of :class:`fedjax_edu.models.TransformerConfig`, for the transformers of encoders and of the fusion, with
    `width` of tokens, `texts` as :class:`fedjax_edu.study.config.TextsConfig` has them and, instead of `layers`, `encoder_layers` and
    `fusion_layers`.
    """

    def _build(self, seed: int) -> Tree:
        self._contents = Contents(self.encoding)
        arguments = dict(self.arguments)
        width, texts, *layers = (arguments.pop(name) for name in ("width", "texts", "encoder_layers", "fusion_layers"))
        read = texts["source"] or texts["buckets"]
        self._texts = tuple(feature for feature in self.encoding.schema.features if feature.kind == "text" and read)
        parts = self._contents.parts
        if self._texts and texts["source"]:
            parts["text"] = Sentences(texts["source"], texts["rank"])
        if self._texts and texts["buckets"]:
            parts["phrases"] = Phrases(texts["buckets"], gain=texts["gain"])
        encoders, fusion = (TransformerConfig(layers=count, **arguments) for count in layers)
        heads = {task.name: Binary() if task.binary else Regression() for task in self.encoding.schema.tasks}
        self.model = m3t(parts, heads, Size(width=width, encoders=encoders, fusion=fusion), seed)
        self._apply, params = functional(self.model)
        return params

    @property
    def features(self) -> tuple[Feature, ...]:
        """All numbers and categories, and texts where it reads them."""
        return super().features + self._texts

    @property
    def frozen(self) -> Selector:
        """The published weights."""
        return "encoders.text.language" if "text" in self.model.encoders else None

    def save(self, folder: Path) -> Mapping[str, Any]:
        """The text encoder, in the layout of its family."""
        if "text" not in self.model.encoders:
            return self.arguments
        encoder: Any = self.model.encoders["text"]
        encoder.language.save_pretrained(folder / LANGUAGE)
        return {**self.arguments, "texts": {**self.arguments["texts"], "source": LANGUAGE}}

    @classmethod
    def load(cls, folder: Path, encoding: Encoding, arguments: Mapping[str, Any]) -> Self:
        """With the text encoder that lies in the folder."""
        texts = arguments["texts"]
        source = str(folder / LANGUAGE) if texts["source"] == LANGUAGE else texts["source"]
        return cls(encoding, {**arguments, "texts": {**texts, "source": source}})

    def leaves(self, population: Population) -> dict[str, Any]:
        """``contents`` by modality."""
        contents = self._contents.of(population)
        if self._texts:
            contents |= self._read(texts_of(population, self._texts))
        return {"contents": contents}

    def _read(self, texts: Texts) -> dict[str, Content]:
        """Texts as the encoders read them."""
        arguments, encoders = self.arguments["texts"], self.model.encoders
        contents = {}
        if "text" in encoders:
            encoder: Any = encoders["text"]
            contents["text"] = words_of(texts, encoder.language.pieces, arguments["pieces"])
        if "phrases" in encoders:
            contents["phrases"] = phrases_of(texts, arguments["buckets"], arguments["phrases"], arguments["stop_words"])
        return contents

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
