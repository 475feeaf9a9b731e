"""The records of a run: one JSON object a round, in a file that a killed and resumed run leaves byte for byte as an uninterrupted one."""

import dataclasses
import hashlib
import json
from typing import Any

from fedjax_edu.core.errors import CheckpointError, require
from fedjax_edu.engine import Info
from fedjax_edu.study.processes import is_first
from fedjax_edu.study.run_folder import RunFolder, as_lines

METRICS = "metrics.jsonl"  # what happened; no clock values
TIMING = "timing.jsonl"  # and how long it took
RECORDED = ("loss", "participants", "rejected", "examples", "steps", "utilisation", "update_norm", "bytes_up", "bytes_down")


@dataclasses.dataclass(frozen=True)
class History:
    """What a run reported.

    Attributes:
        rounds: one record a round.
    """

    rounds: list[dict[str, Any]]

    @property
    def curve(self) -> list[tuple[int, dict[str, float]]]:
        """``(round, {task: held-out score})`` of the rounds that were scored."""
        return [(record["round"], record["held_out"]) for record in self.rounds if "held_out" in record]

    def to_pandas(self) -> Any:
        """The records as a ``pandas.DataFrame``, a row a round; entries of mappings are columns with a dot in their name.

        Raises:
            MissingDependencyError: pandas is missing.

        >>> History([{"round": 1, "loss": 0.5, "losses": {"math": 0.4}}]).to_pandas().to_dict("index")
        {1: {'loss': 0.5, 'losses.math': 0.4}}
        """
        require("History.to_pandas", "study", "pandas")
        import pandas as pd

        return pd.json_normalize(self.rounds).set_index("round")

    def total(self, name: str) -> int:
        """The sum of a count over all rounds."""
        return int(sum(record[name] for record in self.rounds))


class Records:
    """The file of a run's records, and a digest by which a checkpoint knows them again.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder):
        self._folder = folder
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        """Of all lines."""
        return self._digest.hexdigest()

    @property
    def history(self) -> History:
        """The rounds that there are records of.

        Raises:
            CheckpointError: the file has changed since they were written.
        """
        lines = self._lines()
        if is_first() and hashlib.sha256("".join(lines).encode()).hexdigest() != self.digest:
            raise CheckpointError(
                METRICS, "other records than this run wrote", "start the run again: it goes on from its newest checkpoint"
            )
        return History([json.loads(line) for line in lines])

    def add(self, records: list[dict[str, Any]]) -> None:
        """Adds a line a round.

        Raises:
            CheckpointError: the file cannot be written.
        """
        text = as_lines(records)
        self._folder.append_text(METRICS, text)
        self._digest.update(text.encode())

    def rewind(self, rounds: int) -> None:
        """Takes back the records of all rounds after the first `rounds`: they will be run again."""
        kept = "".join(self._lines()[:rounds])
        self._digest = hashlib.sha256(kept.encode())
        self._folder.write_text(METRICS, kept)

    def check(self, rounds: int, digest: str | None) -> int:
        """Refuses records that a checkpoint does not know.

        Args:
            rounds: that it has.
            digest: of their records when it was saved; None of none.

        Returns:
            The rounds that there are records of.

        Raises:
            CheckpointError: there are fewer, or others.
        """
        lines = self._lines()
        remedy = f"put back its lines up to round {rounds}, where the newest checkpoint is, or remove the run folder"
        if len(lines) < rounds:
            raise CheckpointError(METRICS, f"{len(lines)} rounds", remedy)
        for number, line in enumerate(lines[:rounds], start=1):
            if _round(line) != number:
                raise CheckpointError(METRICS, f"line {number}: {line.strip()[:60]}", remedy)
        if digest not in (None, hashlib.sha256("".join(lines[:rounds]).encode()).hexdigest()):
            raise CheckpointError(METRICS, f"other records than those of the first {rounds} rounds", remedy)
        return len(lines)

    def _lines(self) -> list[str]:
        path = self._folder.path / METRICS
        try:
            lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        except OSError as error:
            raise CheckpointError(METRICS, str(error), "put the file back, or remove the run folder") from error
        return [line.decode(errors="replace") for line in lines if line.endswith(b"\n")]


def _round(line: str) -> Any:
    """The number in a record; None where the line is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record.get("round") if isinstance(record, dict) else None


def to_records(info: Info, first: int) -> list[dict[str, Any]]:
    """One record a round.

    Args:
        info: of rounds of one run.
        first: number of the first.
    """
    fields = {name: getattr(info, name) for name in RECORDED}
    return [
        {"round": first + number}
        | {name: values[number].item() for name, values in fields.items()}
        | {"losses": {name: values[number].item() for name, values in info.metrics.items()}}
        for number in range(len(info.loss))
    ]
