"""The rivals' virtual environments, made from pinned requirements where and when they are missing."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from experiments.benchmarks.errors import BenchmarkError

HERE = Path(__file__).resolve().parent
PYTHON = (3, 11)  # that the pinned versions have wheels for
STAMP = "requirements.sha256"


def prepare(name: str, folder: Path) -> Path:
    """Makes an environment, unless it is there already with the same requirements.

    PyTorch comes from the index that pip is configured with; one that has its CPU builds saves gigabytes.

    Args:
        name: of ``requirements-<name>.txt`` beside this file.
        folder: where environments live.

    Returns:
        Its interpreter.

    Raises:
        BenchmarkError: no Python 3.11, or pip could not install what is pinned.
    """
    requirements, home = HERE / f"requirements-{name}.txt", folder.resolve() / name
    python, stamp = home / "bin" / "python", home / STAMP
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    _run(name, [_interpreter(), "-m", "venv", "--clear", str(home)])
    _run(name, [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--requirement", str(requirements)])
    stamp.write_text(wanted)
    return python


def _interpreter() -> str:
    wanted = ".".join(map(str, PYTHON))
    found = sys.executable if sys.version_info[:2] == PYTHON else shutil.which(f"python{wanted}")
    if found is None:
        raise BenchmarkError(f"Python {wanted}: not found, and the rivals' pinned versions need it; put python{wanted} on the PATH")
    return found


def _run(name: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-8:])
        raise BenchmarkError(f"the environment of {name}: {' '.join(command)} ended with {done.returncode}:\n{tail}")
