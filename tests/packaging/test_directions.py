"""Imports run downwards only: the table of who may import whom, held against every import statement of the tree."""

import ast
import importlib
import sys
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A folder of fedjax_edu/ -> the folders that it may import, besides itself.
MAY_IMPORT: dict[str, set[str]] = {
    "kernels": set(),
    "core": {"kernels"},
    "data": {"core"},
    "models": {"core", "kernels"},
    "engine": {"core", "data"},
    "aggregation": {"core", "kernels"},
    "algorithms": {"core", "aggregation"},
    "privacy": {"core", "aggregation"},
}
BASE = set(MAY_IMPORT)
MAY_IMPORT |= dict.fromkeys(("personalization", "equity", "unlearning", "continual", "interpret"), BASE)
MAY_IMPORT |= {"study": set(MAY_IMPORT)}
# Files right under fedjax_edu/: they tie the folders together, and nothing below may import them.
TOP_FILES = {"", "configure"}


class Import(NamedTuple):
    """One imported name: ``from base import name``, or ``import base`` with an empty name."""

    line: int
    base: str
    name: str


def imports(source: str, package: str) -> Iterator[Import]:
    """Every import in a source text, those inside functions and ``import_module("...")`` included; relative ones resolved."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                yield from (Import(node.lineno, alias.name, "") for alias in node.names)
            case ast.ImportFrom():
                above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                yield from (Import(node.lineno, base, alias.name) for alias in node.names)
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=[ast.Constant(value=str(target)), *_]):
                if called in {"import_module", "__import__"}:
                    yield Import(node.lineno, target, "")


def folder(found: Import) -> str | None:
    """The folder of fedjax_edu/ that an import reaches; "" for the root's own names; None outside the package."""
    path = [part for part in [*found.base.split("."), found.name] if part]
    if path[0] != "fedjax_edu":
        return None
    return path[1] if len(path) > 1 and (found.base != "fedjax_edu" or path[1] in MAY_IMPORT) else ""


def violations(source: str, module: str, package: str) -> list[str]:
    """What is wrong with the imports of one module of fedjax_edu, one line each; ``package`` is what its relative imports start from."""
    own = module.split(".")[1] if module.count(".") else ""
    found = []
    for one in imports(source, package):
        top, target = one.base.split(".")[0], folder(one)
        where = f"{module}:{one.line} imports {one.base} {one.name}".strip()
        if top in {"kernels", "experiments", "tests"}:
            found.append(f"{where}: no part of the installed package has that name")
        elif own == "kernels" and target is None and top != "jax" and top not in sys.stdlib_module_names:
            found.append(f"{where}: a kernel needs JAX alone")
        elif own in TOP_FILES or target is None or target == own:
            continue
        elif own not in MAY_IMPORT:
            found.append(f"{where}: give {own} a row in the table")
        elif target not in MAY_IMPORT[own]:
            found.append(f"{where}: {own} may import {sorted(MAY_IMPORT[own])}")
    return found


def private_uses(source: str, public: Mapping[str, Set[str]]) -> list[str]:
    """Imports of an experiment that reach past the public API; ``public`` is module name -> names that it promises."""
    found = []
    for one in imports(source, package="experiments"):
        if one.base.split(".")[0] != "fedjax_edu":
            continue
        if one.base not in public or (one.name and one.name not in public[one.base]):
            found.append(f"line {one.line}: {one.base} {one.name} is no part of the public API")
    return found


def modules() -> Iterator[tuple[str, str, Path]]:
    """(module, package, path) of every file of the installed package."""
    for name, start in (("fedjax_edu", ROOT / "fedjax_edu"), ("fedjax_edu.kernels", ROOT / "kernels")):
        for path in sorted(start.rglob("*.py")):
            parents = [name, *path.relative_to(start).parent.parts]
            leaf = [] if path.stem == "__init__" else [path.stem]
            yield ".".join([*parents, *leaf]), ".".join(parents), path


def public_api() -> dict[str, set[str]]:
    """Module name -> public names: those of ``fedjax_edu``, and of each module that it names.

    A module without ``__all__`` promises what it defines itself, names with an underscore excepted.
    """
    root = importlib.import_module("fedjax_edu")
    api = {"fedjax_edu": set(root.__all__)}
    for name in root.__all__:
        value = getattr(root, name)
        if isinstance(value, ModuleType):
            own = {key for key, item in vars(value).items() if getattr(item, "__module__", "") == value.__name__ and key[0] != "_"}
            api[f"fedjax_edu.{name}"] = set(getattr(value, "__all__", own))
    return api


def test_imports_of_the_package_run_downwards() -> None:
    everything = list(modules())
    assert {"fedjax_edu.core", "fedjax_edu.kernels"} <= {module for module, _, _ in everything}
    assert [line for module, package, path in everything for line in violations(path.read_text(), module, package)] == []


def test_experiments_use_the_public_api_only() -> None:
    public = public_api()
    paths = sorted((ROOT / "experiments").rglob("*.py"))
    assert paths
    assert {path.name: private_uses(path.read_text(), public) for path in paths} == {path.name: [] for path in paths}


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("fedjax_edu.core.trees", "from fedjax_edu.engine import Engine", "core may import"),
        ("fedjax_edu.core.trees", "from fedjax_edu import data", "core may import"),
        ("fedjax_edu.core.trees", "from fedjax_edu import Engine", "core may import"),
        ("fedjax_edu.core.trees", "import fedjax_edu", "core may import"),
        ("fedjax_edu.core.trees", "def f():\n    import fedjax_edu.data.population as late", "core may import"),
        ("fedjax_edu.core.trees", "from ..study import report", "core may import"),
        ("fedjax_edu.core.trees", "import importlib; importlib.import_module('fedjax_edu.models')", "core may import"),
        ("fedjax_edu.algorithms.fedavg", "from fedjax_edu.data import Population", "algorithms may import"),
        ("fedjax_edu.data.population", "from fedjax_edu.configure import jax_defaults", "data may import"),
        ("fedjax_edu.data.population", "import kernels", "no part of the installed package"),
        ("fedjax_edu.data.population", "from experiments.train import main", "no part of the installed package"),
        ("fedjax_edu.kernels.permutation", "import numpy as np", "JAX alone"),
        ("fedjax_edu.kernels.permutation", "from fedjax_edu.core import trees", "kernels may import"),
        ("fedjax_edu.newcomer.file", "from fedjax_edu.core import trees", "give newcomer a row"),
    ],
)
def test_a_planted_violation_is_found(module: str, line: str, complaint: str) -> None:
    (found,) = violations(line, module, package=module.rpartition(".")[0])
    assert complaint in found


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("fedjax_edu", "from fedjax_edu.engine import Engine"),
        ("fedjax_edu.configure", "import fedjax_edu.study"),
        ("fedjax_edu.core.trees", "from . import errors"),
        ("fedjax_edu.core.trees", "from fedjax_edu import kernels"),
        ("fedjax_edu.study.report", "from fedjax_edu.engine import Engine"),
        ("fedjax_edu.engine.rounds", "import numpy as np\nimport optax"),
        ("fedjax_edu.kernels.permutation", "import functools\nimport jax.numpy as jnp\nfrom jax.experimental import pallas as pl"),
    ],
)
def test_a_lawful_import_passes(module: str, line: str) -> None:
    assert violations(line, module, package=module.rpartition(".")[0] or module) == []


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("import fedjax_edu as fe", 0),
        ("from fedjax_edu import Engine, data", 0),
        ("from fedjax_edu.data import Population", 0),
        ("import optax", 0),
        ("from fedjax_edu import secret", 1),
        ("from fedjax_edu.data import population", 1),
        ("from fedjax_edu.data.population import Population", 1),
        ("import fedjax_edu.engine.rounds", 1),
    ],
)
def test_the_public_api_check_tells_public_from_private(line: str, count: int) -> None:
    public = {"fedjax_edu": {"Engine", "data"}, "fedjax_edu.data": {"Population"}}
    assert len(private_uses(line, public)) == count
