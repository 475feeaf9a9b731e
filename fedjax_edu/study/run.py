"""A run that survives: rounds in a folder, with checkpoints, from which the same call goes on."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fedjax_edu.core.errors import CheckpointError, check_integer
from fedjax_edu.core.trees import Tree
from fedjax_edu.engine import Engine, Info, State
from fedjax_edu.engine.checks import check_params
from fedjax_edu.study.checkpoints import Checkpoints, check_path, differences
from fedjax_edu.study.console import Logged, Printer, standard_output
from fedjax_edu.study.identity import identity
from fedjax_edu.study.processes import meet, most_of_all
from fedjax_edu.study.provenance import origin
from fedjax_edu.study.records import METRICS, TIMING, History, Records, to_records
from fedjax_edu.study.run_folder import RunFolder, to_json
from fedjax_edu.study.saving import Saving
from fedjax_edu.study.stopping import Requests, leave, stoppable
from fedjax_edu.study.tracking import TRACKED, Tracker

BY_DEFAULT = Saving()
CHECKPOINTS = "checkpoints"
IDENTITY = "run.json"
STARTS = "starts.jsonl"
FILES = (IDENTITY, STARTS, METRICS, TIMING, CHECKPOINTS, *TRACKED)


class Run:
    """Rounds of an engine in a run folder; the same call, made again after any end, goes on from the newest checkpoint.

    The folder receives ``run.json`` (what the run is), ``starts.jsonl`` (command, versions, commit and hardware of each start),
    ``metrics.jsonl`` (one line a round, without clock values), ``timing.jsonl`` and ``checkpoints``. However often a run is killed,
    ``metrics.jsonl`` ends byte for byte as that of an uninterrupted one on the same machine and plan. On other devices the parameters
    agree within float rounding.

    Args:
        engine: what to run. ``lanes="auto"`` is decided once: a run that goes on takes what its checkpoint says.
        params: starting parameters.
        workdir: the run folder; created where it is missing.
        seed: root of all randomness.
        config: what the run was configured by, a dataclass or mapping; one that has changed is refused.
        saving: when to save.
        report: rounds between two reports, and between two scores.
        score: held-out scores of a state by name, for the learning curve; nothing is selected by them.
        trackers: where else records go.
        console: where progress goes; None is standard output.
        overwrite: remove what the folder has of a run, this one or another, when training begins.

    Raises:
        ArgumentError: a folder that cannot be written, whose path has square brackets, or in which a process is running; parameters that
            cannot be trained.
        CheckpointError: the folder is of another run: what differs is named, and nothing is changed.
        ConfigError: a field of `config` that JSON has no value for.

    >>> import tempfile, optax, fedjax_edu as fe
    >>> from rich.console import Console
    >>> population = fe.data.Population.from_arrays({"y": np.arange(6.0, dtype=np.float32)}, offsets=[0, 2, 6])
    >>> algorithm = fe.algorithms.fedavg(
    ...     lambda params, batch, key: 0.5 * (params["mean"] - batch["y"]) ** 2,
    ...     client_optimizer=optax.sgd(0.5), local=fe.LocalTraining(epochs=1))
    >>> engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = fe.study.Run(engine, {"mean": np.float32(0)}, folder, console=Console(quiet=True))
    ...     state, history = run.train(rounds=2)
    ...     state, history = run.train(rounds=3)  # one more
    ...     len(history.rounds), [record["round"] for record in history.rounds], float(state.params["mean"])
    (3, [1, 2, 3], 2.1875)
    """

    def __init__(
        self,
        engine: Engine,
        params: Tree,
        workdir: str | os.PathLike[str] | RunFolder,
        *,
        seed: int = 0,
        config: Any = None,
        saving: Saving = BY_DEFAULT,
        report: int = 10,
        score: Callable[[State], dict[str, float]] | None = None,
        trackers: Sequence[Tracker] = (),
        console: Printer | None = None,
        overwrite: bool = False,
    ):
        check_params(params, engine.population)
        self.engine = engine
        self.folder = workdir if isinstance(workdir, RunFolder) else RunFolder(workdir)
        check_path(self.folder.path / CHECKPOINTS)
        self._records = Records(self.folder)
        self._params, self._seed = params, seed
        self._identity = to_json(identity(engine.population, params, seed, config))
        self._saving, self._report, self._score = saving, check_integer("report", report), score
        self._trackers, self._overwrite = tuple(trackers), overwrite
        printer = console or standard_output()
        self._console = printer if isinstance(printer, Logged) else Logged(printer, self.folder)
        self._logs: list[Callable[[Mapping[str, Any]], None]] = []  # where trackers take records while it trains

    def train(self, rounds: int, requests: Requests | None = None) -> tuple[State, History]:
        """Runs until `rounds` rounds are done, those of earlier calls and processes included.

        Ctrl-C, SIGTERM and SIGUSR1 end the run after the running rounds, when they are saved.

        Args:
            rounds: how many in all.
            requests: of a caller who minds signals himself; None minds them here.

        Returns:
            The state after the last round, and the records of all.

        Raises:
            Stopped: a signal came; everything is saved.
            CheckpointError: a checkpoint cannot be written or read, or is of another run.
        """
        rounds = check_integer("rounds", rounds)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.folder.locked())
            self._claim()
            checkpoints = stack.enter_context(self._checkpoints())
            checkpoints.sweep()
            requests = stack.enter_context(stoppable(self._console)) if requests is None else requests
            state = self._begin(checkpoints)
            opened = (tracker.opened(self.folder.path, self._identity, int(state.round)) for tracker in self._trackers)
            self._logs = [stack.enter_context(one) for one in opened]
            state = self._go_on(state, rounds, checkpoints, requests)
            if asked := requests.signal:
                leave(asked, int(state.round), self._console)
        return state, self._records.history

    def restore(self, number: int | None = None) -> State:
        """The state of a checkpoint.

        Args:
            number: the round after which it was saved; None is the newest.

        Raises:
            CheckpointError: there is none, it cannot be read, or it is of another run.
        """
        with self._checkpoints() as checkpoints:
            return self._restore(checkpoints, checkpoints.newest if number is None else number)

    def _checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder.path / CHECKPOINTS, last=self._saving.last, best=self._saving.best)

    def _claim(self) -> None:
        """Makes the folder this run's, or finds that it is."""
        if self._overwrite:
            self.folder.remove(*FILES)
            self._overwrite = False
            meet("the run folder is empty")
        self.check()

    def check(self) -> None:
        """Refuses a folder of another run, and changes nothing.

        Raises:
            CheckpointError: it is, and is not to be overwritten.
        """
        if self._overwrite:
            return
        found = self.folder.read_json(IDENTITY)
        if found is not None and found != self._identity:
            self._refuse(IDENTITY, found)
        if found is None and (self.folder.path / METRICS).exists():
            raise CheckpointError("workdir", str(self.folder.path), f"name another folder: its {METRICS} is of an unknown run")

    def _refuse(self, where: str, found: Any) -> None:
        found = found if isinstance(found, dict) else {}
        remedy = f"name another folder, overwrite this one, or start the run as it was: {differences(found, self._identity)}"
        raise CheckpointError("workdir", f"{self.folder.path}, where {where} is of another run", remedy)

    def _begin(self, checkpoints: Checkpoints) -> State:
        """The newest state, and records that end where it does."""
        newest = checkpoints.newest
        state = self.engine.init(self._params, self._seed) if newest is None else self._restore(checkpoints, newest)
        recorded = self._records.check(int(state.round), None if newest is None else checkpoints.facts(newest).get("records"))
        self.folder.write_json(IDENTITY, self._identity)  # nothing of the folder has changed where it is refused
        meet("the run folder is claimed")
        self._records.rewind(int(state.round))
        self._console.begin()
        self.folder.append(STARTS, [{"round": int(state.round), **origin()}])
        if newest is not None:
            self._console.print(f"goes on after round {newest}, from {checkpoints.folder}", highlight=False, markup=False)
        elif recorded:
            words = f"begins anew, though there are records of {recorded} rounds: no checkpoint is in {checkpoints.folder}"
            self._console.print(words, highlight=False, markup=False)
        return state

    def _restore(self, checkpoints: Checkpoints, number: int | None) -> State:
        if number is not None and number in checkpoints.rounds:
            facts = checkpoints.facts(number)
            if facts.get("run") != self._identity:
                self._refuse(f"{CHECKPOINTS}/{number}", facts.get("run"))
            plan = facts.get("plan")
            if not isinstance(plan, dict) or "lanes" not in plan:
                raise CheckpointError("checkpoint", str(checkpoints.folder / str(number)), "name one that a Run wrote: it has no plan")
            self.engine.keep_lanes(plan["lanes"])
        return checkpoints.restore(number, like=self.engine.init(self._params, self._seed))

    def _go_on(self, state: State, rounds: int, checkpoints: Checkpoints, requests: Requests) -> State:
        started = time.perf_counter()
        if int(state.round) < rounds:
            self.engine.run(state, rounds=0)  # compiles, so that the speeds below are those of training
            self._time(int(state.round), seconds=time.perf_counter() - started)
        loss, saved = np.zeros(2), time.perf_counter()
        while (done := int(state.round)) < rounds:
            state, info, seconds = self._some_rounds(state, min(self._until(done), rounds) - done)
            loss += _loss(info)
            self._tell(state, info, seconds, rounds)
            done = int(state.round)
            asked, late = requests.signal, most_of_all(time.perf_counter() - saved > self._saving.seconds)
            if asked or late or done == rounds or done % self._saving.rounds == 0:
                self._save(checkpoints, state, _mean(loss))
                loss, saved = np.zeros(2), time.perf_counter()
            if asked:
                break
        checkpoints.wait()
        return state

    def _until(self, done: int) -> int:
        """The next round after which there is something to do."""
        return min(done - done % each + each for each in (self._report, self._saving.rounds))

    def _some_rounds(self, state: State, count: int) -> tuple[State, Info, float]:
        started = time.perf_counter()
        state, info = self.engine.run(state, rounds=count)
        return state, info, time.perf_counter() - started

    def _tell(self, state: State, info: Info, seconds: float, rounds: int) -> None:
        """Writes the records of some rounds, in the folder, to trackers and for people."""
        last = int(state.round)
        records = to_records(info, first=last + 1 - len(info.loss))
        if self._score is not None and (last % self._report == 0 or last == rounds):
            records[-1]["held_out"] = self._score(state)
        self._records.add(records)
        speed = int(info.participants.sum()) / seconds
        self._time(last, seconds=seconds, clients_per_second=speed)
        for log in self._logs:
            for record in records:
                log(record)
        eta = _minutes((rounds - last) * seconds / len(records))
        loss = f"{_mean(_loss(info)):.4f}"
        self._console.print(f"round {last:>4} of {rounds}   loss {loss}   {speed:>7,.0f} clients/s   ETA {eta}", highlight=False)

    def _save(self, checkpoints: Checkpoints, state: State, loss: float) -> None:
        started = time.perf_counter()
        layout = self.engine.layout
        plan = {"lanes": layout.lanes, "reason": layout.reason, "chunk": layout.chunk, "mesh": dict(layout.mesh.shape)}
        checkpoints.save(state, {"run": self._identity, "plan": plan, "records": self._records.digest}, loss=loss)
        self._time(int(state.round), saving_seconds=time.perf_counter() - started)

    def _time(self, done: int, **seconds: float) -> None:
        self.folder.append(TIMING, [{"round": done, **seconds}])


def _loss(info: Info) -> np.ndarray:
    """The sum of training losses over examples, and the number of examples."""
    return np.array([np.sum(np.where(info.examples > 0, info.loss * info.examples, 0.0)), info.examples.sum()])


def _mean(loss: np.ndarray) -> float:
    """Of sums by :func:`_loss`; NaN where nobody took part."""
    return float(loss[0] / loss[1]) if loss[1] else np.nan


def _minutes(seconds: float) -> str:
    return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"
