"""The strict session: 8 fake CPU devices, no silent promotion, annotations checked while the tests run."""

import os

import jax
import pytest
from jaxtyping import install_import_hook

# Tests compile thousands of small programs and run each for milliseconds: code that is quick to compile saves a third of the suite.
QUICK = "--xla_cpu_use_fusion_emitters=false" if jax.__version_info__ < (0, 11) else "--xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

PACKAGES = ("aggregation", "algorithms", "core", "engine", "kernels")  # data names its own type with Self, which the hook cannot read
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"  # an int is a float where one is asked for
install_import_hook([f"fedjax_edu.{package}" for package in PACKAGES], CHECKER)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share compiled programs run in one process: those of a file, or of one row of its table."""
    for item in items:
        row = getattr(item, "callspec", None) and item.callspec.params.get("row")
        item.add_marker(pytest.mark.xdist_group(f"{item.path.name} {row.name if row else ''}"))
