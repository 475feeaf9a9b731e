"""What every parameter of a model is part of, whose it is, and whether it is trained and sent."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import jax
from flax import nnx

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.modules import KINDS, Modules
from fedjax_edu.core.trees import Tree, path_name
from fedjax_edu.models.function import GATHERED, functional
from fedjax_edu.models.fusion.gated import SHARED

LEVELS = ("student", "instructor", "institution", "federation")
# Whose a part is where nobody says otherwise. Reference: Borazjani et al. (2025), arXiv:2509.07946: prompts adapt to students, adapters to
# instructors, heads to institutions.
LEVEL_OF = {"prompt": "student", "adapter": "instructor", "head": "institution"}
KIND_OF = {"encoders": "encoder", "fusion": "fusion", "heads": "head", "lora": "lora", "adapters": "adapter", "prompts": "prompt"}
GATED = {"modalities": ("modality",), "tasks": ("task",), "task_experts": ("modality", "task"), "modality_experts": ("task", "modality")}
EXPERT_LEAVES = ("into", "into_bias", "out", "out_bias")


class Entry(NamedTuple):
    """One parameter leaf.

    Args:
        path: dotted.
        shape: of its array.
        module: what is held, sent, frozen or erased together: ``encoders.text``, ``encoders.text.experts``, ``heads.math``; of published
            weights ``encoders.text.language``.
        kind: encoder, experts, router, fusion, head, lora, adapter, prompt, or other.
        modality: that it belongs to; empty: to none or to all.
        task: that it belongs to; empty: to none or to all.
        level: whose it is: of a student, an instructor, an institution, or the federation.
        trainable: whether clients change it.
        shareable: whether it may leave an institution.
    """

    path: str
    shape: tuple[int, ...]
    module: str
    kind: str
    modality: str
    task: str
    level: str
    trainable: bool
    shareable: bool

    @property
    def parameters(self) -> int:
        """How many numbers it is."""
        return math.prod(self.shape)


def registry(model: nnx.Module, *, levels: Mapping[str, str] | None = None, frozen: Callable[[str], bool] | None = None) -> list[Entry]:
    """Every parameter leaf of a model.

    Args:
        model: from :func:`fedjax_edu.models.m3t`, or any with ``encoders``, ``fusion`` and ``heads``; shapes are enough.
        levels: kind -> level, for kinds that are not whose :data:`LEVEL_OF` says.
        frozen: which dotted paths are not trained; None: published weights that :class:`fedjax_edu.models.SentenceEncoder` reads with;
            and where there are low-rank matrices, adapters or prompts beside anything else, all encoders and the fusion.

    Returns:
        Entries in the order of the tree.

    Raises:
        ArgumentError: an unknown level.
    """
    levels = LEVEL_OF | dict(levels or {})
    if wrong := sorted(set(levels.values()) - set(LEVELS)):
        raise ArgumentError("levels", wrong, f"use {', '.join(LEVELS)}")
    params = functional(model)[1]
    added = set(params) & set(GATHERED.values())
    entries, changed = [], any(not _published(own) for own in _corrected(params))
    for steps, leaf in jax.tree_util.tree_leaves_with_path(params):
        path, parts = path_name(steps), [path_name((step,)) for step in steps]  # a task's name may have dots
        outer, own = (parts[:1], parts[1:]) if parts[0] in added else ([], parts)
        kind = KIND_OF.get(parts[0], "other") if outer else _kind(own)
        level = levels.get(kind, "federation")
        base = not outer and (_published(own) or (changed and kind in ("encoder", "experts", "router", "fusion")))
        entries.append(
            Entry(
                path=path,
                shape=tuple(leaf.shape),
                module=".".join([*outer, *_module(own, kind)]),
                kind=kind,
                modality=_part(own, "modality"),
                task=_part(own, "task"),
                level=level,
                trainable=not (base if frozen is None else frozen(path)),
                shareable=level in ("institution", "federation"),
            )
        )
    return entries


def modules_of(entries: Iterable[Entry], kind_of: Callable[[Entry], str] | None = None) -> Modules:
    """The engine's modules, one for each name in the registry.

    Args:
        entries: from :func:`registry`.
        kind_of: ``"shared"``, ``"personal"`` or ``"frozen"`` for each entry, the same for all of a module; None: what is not trainable is
            frozen, what is not shareable personal, all else shared.

    Raises:
        ArgumentError: a module of two kinds, or another kind; a model in place of its registry.
    """
    if isinstance(entries, nnx.Module):
        raise ArgumentError("entries", type(entries).__name__, "pass registry(model)")
    entries = list(entries)
    kinds: dict[str, str] = {}
    for entry in entries:
        kind = _default_kind(entry) if kind_of is None else kind_of(entry)
        if kind not in KINDS:
            raise ArgumentError("kind_of", kind, f"use {', '.join(KINDS)}")
        if kinds.setdefault(entry.module, kind) != kind:
            raise ArgumentError("kind_of", f"{entry.module}: {kinds[entry.module]} and {kind}", "give all leaves of a module the same kind")
    names = tuple(kinds)
    return Modules(
        names, tuple(kinds.values()), tuple(entry.path for entry in entries), tuple(names.index(entry.module) for entry in entries)
    )


def expert_leaves(model: nnx.Module) -> dict[str, str]:
    """Leaves with an axis of experts in front, and the layer by which :func:`fedjax_edu.models.make_loss` counts their tokens.

    Args:
        model: see :func:`registry`.

    Returns:
        Dotted path -> layer, for :func:`fedjax_edu.algorithms.with_routed_tokens`.
    """
    paths = [entry.path for entry in registry(model) if entry.kind == "experts"]
    layers = {path: path.rpartition(".feed_forward.")[0] for path in paths}
    return {path: layer.replace(".transformer", "") for path, layer in layers.items() if layer and path.split(".")[-1] in EXPERT_LEAVES}


def describe(model: nnx.Module, **choices: object) -> str:
    """The registry as a table, a line for each module.

    Args:
        model: see :func:`registry`.
        **choices: of :func:`registry`.

    Returns:
        Text with a line for each module and one for the sum.
    """
    entries = registry(model, **choices)  # type: ignore[arg-type]
    modules: dict[str, list[Entry]] = {}
    for entry in entries:
        modules.setdefault(entry.module, []).append(entry)
    head = ("module", "kind", "modality", "task", "level", "parameters", "trained", "shared")
    lines = [head, *(_line(name, leaves) for name, leaves in modules.items())]
    lines.append(("all", "", "", "", "", f"{sum(entry.parameters for entry in entries):,}", "", ""))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    right = head.index("parameters")
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column == right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _line(name: str, leaves: list[Entry]) -> tuple[str, ...]:
    first, count = leaves[0], sum(entry.parameters for entry in leaves)
    trained = {entry.trainable for entry in leaves}
    said = "partly" if len(trained) > 1 else _yes(first.trainable)
    return name, first.kind, first.modality, first.task, first.level, f"{count:,}", said, _yes(first.shareable)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _kind(parts: list[str]) -> str:
    if "feed_forward" in parts and (parts[-2:-1] == ["router"] or parts[-1] == "order"):
        return "router"
    if len(parts) > 1 and parts[-2] == "feed_forward" and parts[-1] in EXPERT_LEAVES:
        return "experts"
    if len(parts) > 1 and parts[1] in ("task_experts", "modality_experts"):
        return "experts"
    return KIND_OF.get(parts[0], "other")


def _module(parts: list[str], kind: str) -> list[str]:
    """The module of a leaf: up to its modality or task, and the experts and the router of it apart."""
    if parts[0] in ("encoders", "heads"):
        base = parts[: 3 if _published(parts) else 2]
    elif len(parts) > 1 and parts[0] == "fusion" and parts[1] in GATED:
        return parts[: 2 + len(GATED[parts[1]])]
    else:
        base = parts[:1]
    return [*base, kind] if kind in ("experts", "router") else base


def _published(parts: list[str]) -> bool:
    """Whether a leaf is of the weights, or a correction of those, that a sentence encoder reads with."""
    return parts[0] == "encoders" and parts[2:3] == ["language"]


def _corrected(params: Tree) -> Iterator[list[str]]:
    """The layers that low-rank matrices, adapters and prompts belong to."""
    for outer in GATHERED.values():
        for steps, _ in jax.tree_util.tree_leaves_with_path(params.get(outer, {})):
            yield [path_name((step,)) for step in steps]


def _part(parts: list[str], wanted: str) -> str:
    """The modality or the task that a leaf belongs to."""
    if parts[0] == {"modality": "encoders", "task": "heads"}[wanted]:
        return parts[1]
    if len(parts) > 1 and parts[0] == "fusion":
        named = dict(zip(GATED.get(parts[1], ()), parts[2:], strict=False))
        found = named.get(wanted, "")
        return "" if found == SHARED else found
    return ""


def _default_kind(entry: Entry) -> str:
    if not entry.trainable:
        return "frozen"
    return "shared" if entry.shareable else "personal"
