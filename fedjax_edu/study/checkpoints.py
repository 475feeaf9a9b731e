"""Checkpoints: the whole state of a run, written beside its training, each complete or not there at all."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core.errors import ArgumentError, CheckpointError, check_integer
from fedjax_edu.core.trees import named_leaves
from fedjax_edu.engine import State
from fedjax_edu.study.checksums import checksums
from fedjax_edu.study.processes import is_first
from fedjax_edu.study.run_folder import words, writing

FORMAT = 1  # of what lies in a checkpoint; a program reads its own and older ones
TRASH = "deleted"
TRIES = 5
_SHOWN = 3  # differences that a message names
_DIGEST = re.compile("[0-9a-f]{16}")


class Checkpoints:
    """The checkpoints of one run, numbered by rounds done.

    A save copies the state and returns; threads write the files beside the training, in a folder that is renamed when all are there.
    What a killed process leaves unfinished is removed by :meth:`sweep`; to open the folder and to read from it changes nothing. Leaves are
    stored by name, so that a state is read back on any number of devices and processes, and one of another model is told apart name by
    name.

    Args:
        folder: where; created when something is saved.
        last: how many of the newest to keep.
        best: how many of those with the least loss to keep beside them.

    Raises:
        ArgumentError: a number below 1, or below 0 for `best`; a folder that Orbax cannot read from.
        CheckpointError: something else than a folder is there, or the loss of a checkpoint cannot be read.

    >>> import tempfile, optax, fedjax_edu as fe
    >>> population = fe.data.Population.from_arrays({"y": np.arange(6.0, dtype=np.float32)}, offsets=[0, 2, 6])
    >>> algorithm = fe.algorithms.fedavg(
    ...     lambda params, batch, key: 0.5 * (params["mean"] - batch["y"]) ** 2,
    ...     client_optimizer=optax.sgd(1.0), local=fe.LocalTraining(epochs=1))
    >>> engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
    >>> start = engine.init({"mean": np.float32(0)}, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder, Checkpoints(folder) as checkpoints:
    ...     checkpoints.save(engine.run(start, rounds=1)[0], {"about": "an example"}, loss=0.5)
    ...     checkpoints.wait()
    ...     state = checkpoints.restore(checkpoints.newest, like=start)
    ...     checkpoints.facts(1)["about"], float(state.params["mean"])
    ('an example', 2.5)
    """

    def __init__(self, folder: str | os.PathLike[str], *, last: int = 2, best: int = 1):
        self.folder = check_path(Path(folder).absolute())
        self._last, self._best = check_integer("last", last), check_integer("best", best, at_least=0)
        self._check_losses()
        self._manager = self._open()
        self._beside = ThreadPoolExecutor(1)  # to delete files may take longer than to write them

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._beside.shutdown()
        with writing(self.folder) if kind is None else contextlib.suppress(Exception):  # the first error is the one to tell
            self._manager.close()

    def _open(self) -> Any:
        import orbax.checkpoint as ocp  # takes a second to import
        from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

        def loss(metrics: dict[str, float]) -> float:
            return metrics["loss"]

        keep = [LatestN(self._last), *([BestN(get_metric_fn=loss, reverse=True, n=self._best)] if self._best else [])]
        options = ocp.CheckpointManagerOptions(
            best_fn=loss,  # the policy stands above it, but without it losses would not outlive the process
            best_mode="min",
            preservation_policy=AnyPreservationPolicy(keep),
            todelete_subdir=TRASH,  # a process that is killed while it deletes must not leave half of what looks like a checkpoint
        )
        handlers = {"state": ocp.StandardCheckpointHandler(), "facts": ocp.JsonCheckpointHandler()}
        try:
            for _ in range(TRIES - 1):
                with contextlib.suppress(FileNotFoundError):  # the process that writes there has just removed an old one
                    return ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)
            return ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)
        except OSError as error:
            raise CheckpointError("checkpoint", str(self.folder), f"name a folder that you may write to ({error})") from error

    def sweep(self) -> None:
        """Removes what a killed process left unfinished; for the one that writes, since others may still be at it."""
        self._sweep("*.orbax-checkpoint-tmp*")  # Orbax would, but not wait for it
        self._sweep(TRASH)

    def _sweep(self, names: str) -> None:
        """Removes folders that are no checkpoints."""
        for folder in self.folder.glob(names) if is_first() else ():
            shutil.rmtree(folder)

    def _check_losses(self) -> None:
        """Refuses a checkpoint without a loss: which ones are best is found out of all, and not before the next save."""
        for path in sorted(self.folder.glob("[0-9]*/metrics/metrics")):
            if path.parent.parent.name.isdigit():
                with contextlib.suppress(FileNotFoundError):  # the process that writes there may remove it at any moment
                    self._check_loss(path)

    def _check_loss(self, path: Path) -> None:
        number = int(path.parent.parent.name)
        try:
            loss = json.loads(path.read_text())["loss"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._unreadable(number, error) from error
        if not isinstance(loss, float):
            raise self._unreadable(number, TypeError(f"the loss is {str(loss)[:60]}"))

    @property
    def rounds(self) -> list[int]:
        """Rounds after which there is a complete checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    @property
    def newest(self) -> int | None:
        """The last of :attr:`rounds`; None where there is none."""
        return max(self.rounds, default=None)

    @property
    def best(self) -> int | None:
        """The round with the least loss of those that are kept."""
        return self._manager.best_step()

    def save(self, state: State, facts: Mapping[str, Any], *, loss: float) -> None:
        """Begins to write a checkpoint; returns once the state is copied, and after the save before it has ended.

        Args:
            state: of which every leaf is written.
            facts: plain JSON values to keep beside it.
            loss: by which the best are kept; one that is not finite is never among them.

        Raises:
            CheckpointError: this checkpoint, or the one before, cannot be written; those that are complete stay.
        """
        import orbax.checkpoint as ocp

        arrays, kinds = _arrays(state)
        arrays = {name: _on_host(leaf) for name, leaf in arrays.items()}
        everything = {"format": FORMAT, "keys": kinds, "checksums": checksums(arrays), **facts}
        args = ocp.args.Composite(state=ocp.args.StandardSave(arrays), facts=ocp.args.JsonSave(everything))
        with writing(self.folder / str(int(state.round))):
            self._manager.wait_until_finished()
            self._beside.submit(self._sweep, f"{TRASH}/*")
            self._manager.save(int(state.round), args=args, metrics={"loss": float(loss) if np.isfinite(loss) else float("inf")})

    def wait(self) -> None:
        """Returns when everything that was saved is complete.

        Raises:
            CheckpointError: it cannot be written.
        """
        with writing(self.folder):
            self._manager.wait_until_finished()
            self._beside.submit(self._sweep, TRASH).result()

    def facts(self, number: int) -> dict[str, Any]:
        """What was saved beside the state of a round.

        Raises:
            CheckpointError: nothing is there, or it cannot be read.
        """
        import orbax.checkpoint as ocp

        self._check_there(number)
        try:
            found = self._manager.restore(number, args=ocp.args.Composite(facts=ocp.args.JsonRestore())).facts
        except Exception as error:  # what Orbax and its readers raise depends on the file that is missing
            raise self._unreadable(number, error) from error
        version = found.get("format") if isinstance(found, dict) else None
        if not isinstance(version, int) or not isinstance(found.get("keys"), dict):
            raise CheckpointError("checkpoint", str(self.folder / str(number)), "name one that fedjax_edu wrote")
        if version > FORMAT:
            remedy = f"use a newer fedjax_edu: it has format {version}, and this one reads up to {FORMAT}"
            raise CheckpointError("checkpoint", str(self.folder / str(number)), remedy)
        return found

    def restore(self, number: int | None, *, like: State) -> State:
        """A state as it was saved.

        Args:
            number: the round; None is the newest.
            like: a state of the same engine, for structure, shapes and where leaves lie; its values do not matter.

        Raises:
            CheckpointError: nothing is there, it cannot be read, or it is of another model, algorithm or population.
        """
        import orbax.checkpoint as ocp

        number = self._check_there(self.newest if number is None else number)
        facts, own = self.facts(number), _arrays(like)
        kinds = facts["keys"]
        try:
            stored = dict(self._manager.item_metadata(number).state)
        except Exception as error:
            raise self._unreadable(number, error) from error
        self._check_like(number, stored, kinds, own)
        shapes = {name: _shape(leaf) for name, leaf in own[0].items()}
        try:
            found = self._manager.restore(number, args=ocp.args.Composite(state=ocp.args.StandardRestore(shapes))).state
        except Exception as error:
            raise self._unreadable(number, error) from error
        found_sums = checksums({name: found[name] for name in shapes})
        if damaged := [name for name, known in facts.get("checksums", {}).items() if found_sums.get(name) != known]:
            raise self._unreadable(number, ValueError(f"the numbers of {damaged[0]} are not those that were saved"))
        return _state(found, like)

    def _check_there(self, number: int | None) -> int:
        if number is None or number not in self.rounds:
            known = ", ".join(map(str, self.rounds))
            remedy = f"use one of {known}" if known else f"train first: there is no complete checkpoint in {self.folder}"
            raise CheckpointError("round", number, remedy)
        return number

    def _unreadable(self, number: int, error: Exception) -> CheckpointError:
        before = sorted(each for path in self.folder.iterdir() if path.name.isdigit() and (each := int(path.name)) < number)
        remedy = f"remove that folder to go on from round {before[-1]}" if before else "remove that folder to begin anew"
        return CheckpointError("checkpoint", str(self.folder / str(number)), f"{remedy}: it cannot be read ({words(error)})")

    def _check_like(self, number: int, stored: Any, kinds: dict[str, str], own: tuple[dict[str, Any], dict[str, str]]) -> None:
        there = {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in stored.items()} | kinds
        here = {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in own[0].items()} | own[1]
        if found := differences(there, here):
            remedy = f"use the model, algorithm and population that it was saved with, or another folder: {found}"
            raise CheckpointError("checkpoint", str(self.folder / str(number)), remedy)


def check_path(folder: Path) -> Path:
    """The folder, unless Orbax would take its name for a pattern and find no file again.

    Raises:
        ArgumentError: there is a bracket in it.
        CheckpointError: something else is there.
    """
    if "[" in str(folder):
        raise ArgumentError("workdir", str(folder), "name a folder without square brackets in its path")
    if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        raise CheckpointError("checkpoint", str(folder), "remove it: this is no folder")
    return folder


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What two descriptions do not share, in words, digests last; empty where they are alike.

    >>> differences({"a": 1, "b": 2}, {"a": 3, "c": 4})
    'a was 1 and is 3; b was 2 and is missing; c was missing and is 4'
    """
    names = [name for name in {**there, **here} if there.get(name, _MISSING) != here.get(name, _MISSING)]
    names.sort(key=lambda name: bool(_DIGEST.fullmatch(str(here.get(name)))))
    words = [f"{name} was {there.get(name, _MISSING)} and is {here.get(name, _MISSING)}" for name in names[:_SHOWN]]
    return "; ".join([*words, f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else words)


class _Missing:
    def __repr__(self) -> str:
        return "missing"


_MISSING = _Missing()


def _arrays(state: State) -> tuple[dict[str, Any], dict[str, str]]:
    """Leaves that hold something, keys as their numbers; and the kind of each key."""
    leaves = dict(named_leaves(state))
    kinds = {name: str(jax.random.key_impl(leaf)) for name, leaf in leaves.items() if _is_key(leaf)}
    arrays = {name: jax.random.key_data(leaf) if name in kinds else leaf for name, leaf in leaves.items()}
    return {name: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf) for name, leaf in arrays.items() if np.size(leaf)}, kinds


def _on_host(leaf: Any) -> Any:
    """A copy in host memory, of what every device holds whole: Orbax would compile and write slices of it."""
    if isinstance(leaf, jax.Array) and leaf.is_fully_addressable and leaf.is_fully_replicated:
        return np.array(leaf)
    return leaf


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _shape(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    return np.empty_like(leaf)


def _state(arrays: Mapping[str, Any], like: State) -> State:
    """Arrays in the structure of a state; leaves that hold nothing are those of the state."""

    def leaf(name: str, own: Any) -> Any:
        if not np.size(own):
            return own
        return jax.random.wrap_key_data(arrays[name], impl=jax.random.key_impl(own)) if _is_key(own) else arrays[name]

    return jax.tree.unflatten(jax.tree.structure(like), [leaf(name, own) for name, own in named_leaves(like)])
