"""The folder in which a trained model leaves: tensors, what they mean, and a card for people."""

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from fedjax_edu.core.errors import ArgumentError, DataError, require
from fedjax_edu.core.modules import assign
from fedjax_edu.core.trees import Tree, named_leaves, path_name
from fedjax_edu.data import Schema, Standardiser
from fedjax_edu.engine import State, processes
from fedjax_edu.study.card import CARD, CardFacts, model_card
from fedjax_edu.study.encoding import Encoding
from fedjax_edu.study.exported import ExportedModel, check_tensors, specs
from fedjax_edu.study.networks import NETWORKS, Network
from fedjax_edu.study.processes import is_first
from fedjax_edu.study.provenance import versions
from fedjax_edu.study.run_folder import to_json

VERSION = 1
FORMAT = "fedjax_edu model"
CONFIG, TENSORS, SCHEMA, SCALES = "config.json", "model.safetensors", "schema.json", "scaling.json"
MODEL = "model"  # the folder of a run that its model is in
DAMAGED = "copy the folder once more, or export the model again"

Value = TypeVar("Value")


def export(
    state: State,
    folder: str | os.PathLike[str],
    *,
    network: Network | None = None,
    facts: CardFacts | None = None,
) -> Path:
    """Writes a federation's parameters to a folder that anybody can load without it.

    The folder receives ``model.safetensors`` (arrays by dotted path), ``config.json``, a model card ``README.md``, and with a `network`
    also ``schema.json`` and ``scaling.json``, after which :func:`load_model` predicts; a network that reads texts adds the folder
    ``language``, the published text encoder with its tokenizer. It appears whole or not at all. What
    clients keep to themselves, their names and the texts of their rows are not in it; levels of categories are.

    Args:
        state: of an engine.
        folder: absent, empty, or with an earlier export, which is replaced.
        network: that was trained.
        facts: what the card says beside.

    Returns:
        The folder.

    Raises:
        ArgumentError: several runs in one state; a folder that holds something else or cannot be written.
        DataError: parameters that are not the network's.
        MissingDependencyError: safetensors is missing.

    >>> import optax, fedjax_edu as fe
    >>> population = fe.data.Population.from_arrays({"x": np.ones(4, np.float32)}, offsets=[0, 2, 4])
    >>> loss = lambda params, batch, key: (batch["x"] - params["w"]) ** 2
    >>> algorithm = fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(0.1), local=fe.LocalTraining(epochs=1, batch_size=2))
    >>> engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
    >>> state = engine.init({"w": np.float32(3)}, seed=0)
    >>> fe.load_model(fe.export(state, "three")).params
    {'w': array(3., dtype=float32)}
    """
    require("an export", "study", "safetensors")
    if not isinstance(state, State):
        raise ArgumentError("state", state, "pass the state that engine.run returns")
    if network is not None and not isinstance(network, Network):
        raise ArgumentError("network", network, "pass the network that was trained, of fedjax_edu.study")
    if state.members is not None:
        raise ArgumentError("state", f"{state.members} runs", "export one of them: state.member(0)")
    place = check_folder(folder)
    exported = ExportedModel(processes.fetch(state.params), network)
    card = model_card(_read(exported), int(state.round), sum(np.size(leaf) for leaf in jax.tree.leaves(exported.params)), facts)
    if is_first():
        _replace(place, lambda new: _write(new, exported, card))
    return place


def load_model(folder: str | os.PathLike[str]) -> ExportedModel:
    """The model that :func:`export` wrote.

    Args:
        folder: as it was written; the card may have been edited.

    Raises:
        ArgumentError: no such folder.
        DataError: a file that is not there, damaged, of a newer version or of something else; the message names it, and the tensor.
        MissingDependencyError: safetensors is missing.
    """
    require("a model", "study", "safetensors")
    place = _path(folder)
    if not place.is_dir():
        raise ArgumentError(
            "folder", str(folder), f"name the folder of an exported model; a run leaves one in WORKDIR/{MODEL} when it ends"
        )
    if (place / MODEL / CONFIG).is_file() and not (place / TENSORS).exists():
        raise ArgumentError("folder", str(folder), f"name {place / MODEL}: this is the folder of its run")
    config = _json(place / CONFIG)
    _check_format(place / CONFIG, config)
    tensors, described = _read_tensors(place / TENSORS, config), config["tensors"]
    for name, digest in config["sha256"].items():
        if _digest(_bytes(place / name)) != digest:
            raise DataError(str(place / name), "other bytes than were exported", DAMAGED)
    if config["model"] is None:
        return ExportedModel(_nested(tensors, described))
    encoding = Encoding(_meant(place / SCHEMA, Schema.from_json), _meant(place / SCALES, Standardiser.from_json))
    network = _network(place, encoding, config["model"])
    still = _still(network)
    return ExportedModel(_nested(dict(named_leaves(still)) | tensors, _described(still) | described), network)


def _read(exported: ExportedModel) -> Schema | None:
    """The schema without the inputs that the network does not read."""
    network = exported.network
    return None if network is None else dataclasses.replace(network.encoding.schema, features=network.features)


def _network(place: Path, encoding: Encoding, described: Mapping[str, Any]) -> Network:
    schema, scales = encoding.schema, encoding.scales
    wanted = {
        "inputs": (scales.inputs, [feature.name for feature in schema.inputs if feature.kind == "number"]),
        "targets": (scales.targets, [task.name for task in schema.tasks if not task.binary]),
    }
    for name, (found, expected) in wanted.items():
        if sorted(found) != sorted(expected):
            raise DataError(f"scales.{name}", sorted(found), f"use {sorted(expected)}, what the schema says")
    try:
        return NETWORKS[described["class"]].load(place, encoding, described["arguments"])
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(str(place / CONFIG), described.get("arguments"), f"{DAMAGED} (its network cannot be built: {error!r})") from error


def check_folder(folder: str | os.PathLike[str]) -> Path:
    """Where a model can be exported to: a folder that is absent, empty, or holds nothing but an earlier export.

    Raises:
        ArgumentError: it holds something else, is where the process stands, or is a file.
    """
    place = _path(folder).resolve()
    if not place.exists():
        return place
    if not place.is_dir():
        raise ArgumentError("folder", str(folder), "name a folder; this is a file")
    if place == Path.cwd():
        raise ArgumentError("folder", str(folder), "name another one: this is where you are, and the folder is replaced as a whole")
    names = {path.relative_to(place).as_posix() for path in place.rglob("*") if not path.is_dir()}
    if strangers := sorted(names - _exported(place / CONFIG)):
        remedy = "name a folder that is new, empty, or an earlier export"
        raise ArgumentError("folder", f"{folder}, which holds {strangers[0]}", remedy)
    return place


def _path(folder: Any) -> Path:
    try:
        place = Path(folder).expanduser()
        place.resolve().exists()
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        raise ArgumentError("folder", folder, f"name a folder ({error})") from error
    return place


def _exported(path: Path) -> set[str]:
    """The files of an earlier export, by its configuration; none where it is something else."""
    try:
        config = json.loads(path.read_bytes())
        return {CONFIG, CARD, *config["sha256"]} if config["format"] == FORMAT else set()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def _write(folder: Path, exported: ExportedModel, card: str) -> None:
    from safetensors.numpy import save

    network, params, model = exported.network, exported.params, None
    if network is not None:
        params, model = _moved(params, network), {"class": _class(network), "arguments": network.save(folder)}
        (folder / SCHEMA).write_bytes(_encoded(network.encoding.schema.to_json()))
        (folder / SCALES).write_bytes(_encoded(network.encoding.scales.to_json()))
    # The writer takes memory as it lies: a transposed array would be saved in another order.
    (folder / TENSORS).write_bytes(save({name: np.asarray(leaf, order="C") for name, leaf in named_leaves(params)}))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    config = {
        "format": FORMAT,
        "version": VERSION,
        "model": model,
        "tensors": _described(params),
        "sha256": {path.relative_to(folder).as_posix(): _digest(path.read_bytes()) for path in files},
        "versions": versions(),
    }
    (folder / CONFIG).write_bytes(_encoded({**config, "digest": _digest_of(config)}))
    (folder / CARD).write_bytes(card.encode())


def _still(network: Network) -> Tree:
    """The parameters that nobody trains, in the network's own files; None in place of the others."""
    return assign(network.params, frozen=network.frozen).split(network.params).frozen


def _moved(params: Tree, network: Network) -> Tree:
    """Parameters without those that stayed what the network's own files have."""
    still = dict(named_leaves(_still(network)))

    def moved(path: Any, leaf: Any) -> Any:
        name = path_name(path)
        return None if name in still and np.array_equal(leaf, still[name]) else leaf

    return jax.tree_util.tree_map_with_path(moved, params)


def _class(network: Network) -> str:
    return next(name for name, kind in NETWORKS.items() if type(network) is kind)


def _replace(place: Path, write: Callable[[Path], None]) -> None:
    """Fills a folder beside its place and moves it there as a whole, so that no reader ever sees half of it."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as work:
            new = Path(work) / "new"
            new.mkdir()
            write(new)
            if place.exists():
                place.rename(Path(work) / "earlier")
            new.rename(place)
    except OSError as error:
        raise ArgumentError("folder", str(place), f"name a folder you may write to ({error})") from error


def _described(params: Tree) -> dict[str, dict[str, Any]]:
    """Of each array, by its dotted path: the keys that lead to it, its shape and its dtype."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    keys = [[getattr(key, "key", getattr(key, "idx", getattr(key, "name", None))) for key in path] for path, _ in leaves]
    found = zip(specs(params).items(), keys, strict=True)
    return {name: {"path": path, "shape": shape, "dtype": dtype} for (name, (shape, dtype)), path in found}


def _nested(tensors: Mapping[str, np.ndarray], described: Mapping[str, Any]) -> Tree:
    """Arrays by dotted path as nested dicts: a dot may belong to a key."""
    if list(described) == [""]:
        return tensors[""]
    params: dict[str | int, Any] = {}
    for name, array in tensors.items():
        *outer, last = described[name]["path"]
        within = params
        for key in outer:
            within = within.setdefault(key, {})
        within[last] = array
    return params


def _read_tensors(path: Path, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    _bytes(path)
    try:
        with safe_open(path, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
    except SafetensorError as error:
        raise DataError(str(path), f"no whole safetensors file ({error})", DAMAGED) from error
    expected = {name: (tuple(one["shape"]), one["dtype"]) for name, one in config["tensors"].items()}
    check_tensors(str(path), {name: (array.shape, str(array.dtype)) for name, array in tensors.items()}, expected)
    return tensors


def _check_format(path: Path, config: Any) -> None:
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format", "no format") if isinstance(config, dict) else config
        raise DataError(str(path), found, f"name a folder that fe.export wrote: its format is {FORMAT!r}")
    if config.get("version") != VERSION:
        found = f"version {config.get('version')}"
        raise DataError(str(path), found, f"install a fedjax_edu that reads it; this one reads version {VERSION}")
    if missing := {"model", "tensors", "sha256", "digest"} - config.keys():
        raise DataError(str(path), f"no {sorted(missing)[0]!r}", DAMAGED)
    if config["digest"] != _digest_of(config):
        raise DataError(str(path), "other entries than were exported", DAMAGED)
    if config["model"] is not None and config["model"].get("class") not in NETWORKS:
        raise DataError(str(path), f"a model of class {config['model'].get('class')!r}", f"this fedjax_edu builds {', '.join(NETWORKS)}")


def _meant(path: Path, read: Callable[[Any], Value]) -> Value:
    try:
        return read(_json(path))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(str(path), f"something else ({error})", DAMAGED) from error


def _json(path: Path) -> Any:
    content = _bytes(path)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(str(path), f"no JSON ({error})", DAMAGED) from error


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise DataError(str(path), "no file", DAMAGED)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(str(path), str(error), "let it be read") from error


def _encoded(value: Any) -> bytes:
    return (json.dumps(to_json(value), indent=2, allow_nan=False) + "\n").encode()


def _digest_of(config: Mapping[str, Any]) -> str:
    """Of all entries but itself."""
    return _digest(_encoded({name: value for name, value in config.items() if name != "digest"}))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
