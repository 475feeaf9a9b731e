"""Bad input gets a clear error before compilation: the table of tests/bad_inputs.py, tried in a process of its own."""

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from tests.bad_inputs import BAD, GOOD, GROUPS, init

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def outcomes():
    """``{name: [class of the exception, its message, engine programs compiled meanwhile]}``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"PYTHONPATH": str(ROOT), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # quick to compile
    found = subprocess.run(
        [sys.executable, "tests/bad_inputs.py"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


@pytest.mark.parametrize("name", BAD)
def test_error_names_argument_and_value_before_compilation(outcomes, name):
    kind, message, compiled = outcomes[name]
    argument, _, rest = message.partition(": got ")
    value, _, remedy = rest.rpartition("; ")
    assert kind is not None, "no error"
    assert kind.startswith("fedjax_edu.core.errors."), f"{kind}: {message}"
    assert argument == BAD[name].argument, message
    assert BAD[name].value in value, message
    assert remedy, message
    assert not compiled, message


def test_every_input_has_a_name_of_its_own():
    assert len(BAD | GOOD) == sum(map(len, (*GROUPS, GOOD)))


@pytest.mark.parametrize("name", GOOD)
def test_odd_input_that_is_right_works(outcomes, name):
    kind, message, _ = outcomes[name]
    assert kind is None, f"{kind}: {message}"


def test_compilation_is_noticed(outcomes):
    assert outcomes["a plain round"][2] == ["run_chunk"]


def test_error_inside_a_loss_surfaces_with_its_traceback():
    def broken(params, batch, key):
        return batch["misspelt"]

    with pytest.raises(KeyError, match="misspelt") as caught:
        init(loss=broken)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert frames[-1].name == "broken"
    assert frames[-1].line == 'return batch["misspelt"]'
