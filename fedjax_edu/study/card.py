"""The card of a model: what it predicts, from whose records, how well, what for, and what was done for privacy."""

import dataclasses
from collections.abc import Mapping

from fedjax_edu.data import Feature, Schema, Task
from fedjax_edu.study.provenance import versions
from fedjax_edu.study.results import Score
from fedjax_edu.study.tables import Table

CARD = "README.md"
NO_GUARANTEE = "No formal privacy guarantee was applied: what the parameters tell about single records of the training data is not bounded."
NOT_RECORDED = "What was applied is not recorded; take it that no formal privacy guarantee was."


@dataclasses.dataclass(frozen=True)
class CardFacts:
    """What arrays and schema do not say about a model.

    Attributes:
        clients: that trained.
        rows: that they trained on.
        training: how, in words: algorithm, cohort, local work.
        held_out: clients and rows that took no part and tested it.
        scores: on these, by task.
        privacy: what was applied, in a sentence.
    """

    clients: int
    rows: int
    training: str
    held_out: tuple[int, int] = (0, 0)
    scores: Mapping[str, Score] = dataclasses.field(default_factory=dict)
    privacy: str = NO_GUARANTEE


def model_card(schema: Schema | None, rounds: int, numbers: int, facts: CardFacts | None) -> str:
    """The card as Markdown, with front matter that hubs of models read.

    Args:
        schema: of the data; None where parameters alone were exported.
        rounds: of training.
        numbers: how many the parameters are.
        facts: what else is known; None leaves out what they would say.
    """
    sections = {
        "What it predicts": _tasks(schema),
        "Data": _data(schema, facts),
        "Training": _training(rounds, numbers, facts),
        "Quality": _quality(schema, facts),
        "Use and limits": USE.replace("ROWS", _rows(schema)) if schema else "Parameters alone: what they compute is not in this folder.",
        "Privacy": _privacy(schema, facts),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"---\n{_front_matter(schema)}\n---\n\n# A model trained by federated learning\n\n{body}\n"


USE = """Meant for research on students whose records have the inputs above, and for clients like those that trained it.

```python
import fedjax_edu as fe

predictions = fe.load_model("FOLDER").predict(ROWS)
```

- It is the model that the federation shares. What a client learnt for itself, its own effects, stays with the client and is not in this
  folder; a client that trained and one that did not are predicted alike.
- Inputs may be missing; a level that the model has not seen counts as missing.
- It says what is likely, not why. Do not decide about a student by it alone, and test it on your own students first, in every group."""


def _rows(schema: Schema) -> str:
    """An example of what the model reads: a table does not say which of several studies a row is of."""
    return '"new.csv"' if len(schema.studies) == 1 else f"fe.data.load_studies({list(schema.studies)})"


def _front_matter(schema: Schema | None) -> str:
    lines = ["library_name: fedjax_edu", "tags:", "- federated-learning", "- education"]
    if schema is not None:
        binary = any(task.binary for task in schema.tasks)
        lines += ["- tabular", f"pipeline_tag: tabular-{'classification' if binary else 'regression'}"]
    return "\n".join(lines)


def _tasks(schema: Schema | None) -> str:
    if schema is None:
        return "Not recorded."
    rows = tuple((task.name, task.kind, _predicted(task)) for task in schema.tasks)
    return Table("", ("task", "kind", "predicted"), rows).markdown().strip()


def _predicted(task: Task) -> str:
    return f"the probability of {task.levels[1] if task.levels else 1}" if task.binary else task.unit or "the value of the column"


def _data(schema: Schema | None, facts: CardFacts | None) -> str:
    paragraphs = []
    if facts is not None:
        clients, rows = facts.held_out
        others = f"; {clients:,} other clients with {rows:,} rows were held out" if clients else ""
        paragraphs.append(f"{facts.clients:,} clients trained on {facts.rows:,} rows of theirs{others}. The records' period is unknown.")
    if schema is not None:
        inputs = tuple((feature.name, feature.kind, _detail(feature)) for feature in schema.features)
        paragraphs.append(f"A client is one value of `{schema.client}`. The inputs:")
        paragraphs.append(Table("", ("input", "kind", "levels or unit"), inputs).markdown().strip())
    return "\n\n".join(paragraphs) or "Not recorded."


def _detail(feature: Feature) -> str:
    return ", ".join(feature.levels) if feature.kind == "category" else feature.unit


def _training(rounds: int, numbers: int, facts: CardFacts | None) -> str:
    how = f"{facts.training}; " if facts is not None else ""
    built = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{how}{rounds:,} rounds, {numbers:,} parameters. Made with {built}."


def _quality(schema: Schema | None, facts: CardFacts | None) -> str:
    if schema is None or facts is None or not facts.scores:
        return "Not measured."
    rows = tuple((task.name, task.metric.replace("R2", "R²"), *dataclasses.astuple(facts.scores[task.name])) for task in schema.tasks)
    note = "10 % quantile: the score that a tenth of these clients stay below; a dash where too few have enough rows."
    return Table("", ("task on held-out clients", "metric", "score", "10 % quantile"), rows, note).markdown().strip()


def _privacy(schema: Schema | None, facts: CardFacts | None) -> str:
    applied = NOT_RECORDED if facts is None else facts.privacy
    named = [f"`{feature.name}`" for feature in schema.inputs if feature.kind == "category"] if schema is not None else []
    inside = f" The levels of the categories {', '.join(named)} are in it as the table spells them: look through them." if named else ""
    return f"{applied}\n\nNames of clients and texts of the table are not in this folder.{inside}"
