"""The three ways to install the package (wheel, source archive, editable), each in a fresh environment and without a network."""

import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ["pyproject.toml", "README.md", "LICENSE", "fedjax_edu", "kernels", "experiments", "tests"]

LOOK = """
import importlib.metadata, importlib.util, json
import fedjax_edu, fedjax_edu.core.errors, fedjax_edu.kernels
print(json.dumps({
    "versions": [importlib.metadata.version("fedjax_edu"), fedjax_edu.__version__],
    "kernels": fedjax_edu.kernels.__file__,
    "root": fedjax_edu.__file__,
    "strangers": [spec.origin for name in ("kernels", "experiments", "tests") if (spec := importlib.util.find_spec(name))],
}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Runs a program and returns what it printed; its error output is the message of a failure."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that a build leaves no trace in the tree under test."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def archives(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("archives")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, checkout, cwd=folder)
    return folder


def environment(folder: Path) -> Path:
    """A fresh environment that sees our dependencies, but no installed fedjax_edu; returns its interpreter."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # A path named in a .pth file has its own .pth files ignored: that is where an editable fedjax_edu would come from.
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def install(python: Path, *arguments: str | Path) -> None:
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, *arguments, cwd=python.parent)


def look(python: Path, folder: Path) -> dict[str, Any]:
    """What an interpreter that starts in an empty folder finds; a dependency may have a top-level ``tests`` of its own."""
    folder.mkdir()
    found = json.loads(run(python, "-I", "-c", LOOK, cwd=folder))
    found["strangers"] = [origin for origin in found["strangers"] if not str(origin).startswith(sysconfig.get_path("purelib"))]
    return found


@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz"])
def test_an_archive_installs_the_kernels_inside_the_package(pattern: str, archives: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "env")
    install(python, *archives.glob(pattern))
    found = look(python, tmp_path / "elsewhere")
    assert Path(found["kernels"]).parent == Path(found["root"]).parent / "kernels"
    assert Path(found["root"]).is_relative_to(tmp_path / "env")
    assert found["strangers"] == []
    assert found["versions"] == [tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]] * 2


def test_the_wheel_holds_every_module_and_nothing_else(archives: Path) -> None:
    (wheel,) = archives.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fedjax_edu").rglob("*.py")}
    kernels = {f"fedjax_edu/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "kernels").rglob("*.py")}
    assert held == package | kernels | {"fedjax_edu/py.typed"}, "list a new folder under [tool.setuptools] packages"


def test_an_editable_install_follows_the_checkout(checkout: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "env")
    install(python, "--editable", checkout)
    found = look(python, tmp_path / "elsewhere")
    assert Path(found["kernels"]) == checkout / "kernels" / "__init__.py"
    assert Path(found["root"]) == checkout / "fedjax_edu" / "__init__.py"
    assert found["strangers"] == []
    for new in ("fedjax_edu/newcomer.py", "kernels/newcomer.py"):
        (checkout / new).write_text("HERE = True\n")
    after = "import fedjax_edu.newcomer as a, fedjax_edu.kernels.newcomer as b; print(a.HERE and b.HERE)"
    assert run(python, "-I", "-c", after, cwd=tmp_path).strip() == "True"


def test_dependencies_environment_has_no_fedjax_edu(tmp_path: Path) -> None:
    """The installs above would pass for nothing if the tests' own install shone through."""
    python = environment(tmp_path / "env")
    assert run(python, "-I", "-c", "import importlib.util as u; print(u.find_spec('fedjax_edu'))", cwd=tmp_path).strip() == "None"
    assert PathFinder.find_spec("jax") is not None
