"""Tables as records and histories: what the encoders of a multi-modal model read of their rows."""

from typing import Any

import numpy as np

from fedjax_edu.data import Feature, Population
from fedjax_edu.models.building import Part, Sequence, Tabular
from fedjax_edu.models.encoders.sequence import Interactions
from fedjax_edu.models.encoders.tabular import Record
from fedjax_edu.models.multimodal import Content
from fedjax_edu.study.encoding import Encoding


class Contents:
    """Two modalities of a table's rows.

    Measurements of a series, last year's score and the one before, are steps of a history, the earliest first. All other numbers and
    categories are a record. Rows list the features of their own study, so that nobody pays for what others record.

    Args:
        encoding: schema and scales of the table.
    """

    def __init__(self, encoding: Encoding):
        self.encoding = encoding
        features = encoding.schema.inputs
        self.features = tuple(feature for feature in features if not feature.series)
        self.steps = tuple(sorted((feature for feature in features if feature.series), key=lambda step: (-step.lag, step.series)))
        self.series = tuple(dict.fromkeys(step.series for step in self.steps))

    @property
    def parts(self) -> dict[str, Part]:
        """What :func:`fedjax_edu.models.m3t` has to know of each modality."""
        parts: dict[str, Part] = {}
        if self.features:
            parts["tabular"] = Tabular(tuple(len(feature.levels) for feature in self.features))
        if self.steps:
            parts["sequence"] = Sequence(len(self.series), self._most(self.steps))
        return parts

    def of(self, population: Population) -> dict[str, Any]:
        """The contents of all rows, by modality."""
        scaled = self.encoding.scales.apply(population)
        contents: dict[str, Any] = {}
        if self.features:
            contents["tabular"] = self._records(scaled)
        if self.steps:
            contents["sequence"] = self._histories(scaled)
        return contents

    def _records(self, scaled: Population) -> Content:
        values, features, present = self._room(scaled, self.features)
        for study in self.encoding.schema.studies:
            rows = self.encoding.inside(scaled, study)
            for place, feature in enumerate(_of(self.features, study)):
                present[rows, place] = there = scaled.arrays["present"][feature.name][rows]
                group = "numbers" if feature.kind == "number" else "categories"
                values[rows, place] = np.where(there, scaled.arrays[group][feature.name][rows], 0)
                features[rows, place] = self.features.index(feature)
        return Content(Record(values, features), present)

    def _histories(self, scaled: Population) -> Content:
        responses, items, present = self._room(scaled, self.steps)
        gaps: Any = np.zeros_like(responses)
        for study in self.encoding.schema.studies:
            rows = self.encoding.inside(scaled, study)
            before = np.full(len(rows), np.nan)  # lag of the latest step that a row has
            for place, step in enumerate(_of(self.steps, study)):
                present[rows, place] = there = scaled.arrays["present"][step.name][rows]
                responses[rows, place] = np.where(there, scaled.arrays["numbers"][step.name][rows], 0)
                items[rows, place] = self.series.index(step.series)
                gaps[rows, place] = np.where(there & np.isfinite(before), before - step.lag, 0)
                before = np.where(there, step.lag, before)
        return Content(Interactions(items, responses, gaps), present)

    def _room(self, population: Population, features: tuple[Feature, ...]) -> tuple[Any, Any, Any]:
        shape = population.num_examples, self._most(features)
        return np.zeros(shape, np.float32), np.zeros(shape, np.int32), np.zeros(shape, bool)

    def _most(self, features: tuple[Feature, ...]) -> int:
        """Features of the study that has most of them."""
        return max(len(_of(features, study)) for study in self.encoding.schema.studies)


def _of(features: tuple[Feature, ...], study: str) -> list[Feature]:
    return [feature for feature in features if feature.study == study]
