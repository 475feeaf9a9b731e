"""Several processes find what one finds, and each reads the rows of its own devices alone."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.engine import federation_of_processes as federation

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def one_process():
    found, _ = federation.everything()
    return jax.tree_util.tree_leaves_with_path(found)


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)], ids=["two processes", "four processes"])
def several(request, tmp_path_factory):
    """What each of several processes on this machine writes."""
    folder, count = tmp_path_factory.mktemp("processes"), request.param
    with socket.create_server(("127.0.0.1", 0)) as free:
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    started = []
    for number in range(count):
        variables = os.environ | {"PYTHONPATH": str(ROOT), "FEDJAX_EDU_DATA": str(folder / f"data-{number}")}
        command = [sys.executable, federation.__file__, coordinator, str(count), str(number), str(folder / f"{number}.npz")]
        with (folder / f"{number}.log").open("w") as log:
            started.append(subprocess.Popen(command, env=variables, stdout=log, stderr=subprocess.STDOUT))
    try:
        for number, process in enumerate(started):
            assert process.wait(timeout=240) == 0, (folder / f"{number}.log").read_text()[-3000:]
    finally:
        for process in started:
            process.kill()
            process.wait()
    written = []
    for number in range(count):
        with np.load(folder / f"{number}.npz") as file:
            written.append(dict(file))
    return folder, written


def test_they_find_what_one_process_finds(one_process, several):
    for written in several[1]:
        assert sum(name.startswith("found/") for name in written) == len(one_process)
        for place, (path, expected) in enumerate(one_process):
            name, found = jax.tree_util.keystr(path), written[f"found/{place}"]
            assert found.dtype == np.asarray(expected).dtype, name
            if "utilisation" not in name or "arrays" not in name:  # measured lanes may differ, and with them the share of idle ones
                np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5, err_msg=name)


def test_each_reads_the_rows_of_its_own_devices(several):
    """A client that sits on another process's devices in every round is never read; to evaluate, each reads a part of its own."""
    _, written = several
    read = np.array([one["loader/read"] for one in written])
    assert read.any(1).all() and not read.all(1).any()
    assert read.sum() < len(written) * read.any(0).sum()
    evaluated = np.array([one["loader/read to evaluate"] for one in written])
    evaluated[:, 5] = evaluated[:, 5].any()  # asked for alone as well, by everyone: fewer clients than processes are not divided
    assert (np.delete(evaluated, 5, axis=1).sum(0) == 1).all()
    rows = evaluated @ federation.SIZES
    assert rows.max() < 1.5 * federation.SIZES.sum() / len(written)


def test_arrays_stream_unless_a_plan_says_that_all_rows_fit(several):
    assert all(one["arrays stream"] for one in several[1])


def test_the_first_process_measures_and_all_have_its_lanes(several):
    folder, written = several
    assert len({int(one["arrays/lanes"]) for one in written}) == 1
    measured = [len(list((folder / f"data-{number}").rglob("*.json"))) for number in range(len(written))]
    assert measured == [1] + [0] * (len(written) - 1)


def test_processes_that_differ_are_told_so(several):
    for one in several[1]:
        population, params = one["said"].tolist()
        assert population.startswith("population: got something else in process 1 than in process 0; describe all clients in every process")
        assert params.startswith("params: got something else in process 1 than in process 0; start from the same parameters")


def test_a_mesh_of_one_process_is_its_own_affair(several):
    assert [float(one["mean"]) for one in several[1]] == [1.5 * (1 + number) for number in range(len(several[1]))]
