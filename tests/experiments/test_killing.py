"""A run that is killed again and again, also while it saves, leaves what an undisturbed one leaves.

``KILLS=50 python -m pytest tests/experiments/test_killing.py`` kills as often as one likes; a third of the times during a save.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("KILLS", "6"))
ROUNDS = 40 + 12 * KILLS
PATIENCE = 120.0


def start(folder: Path, cache: Path, rounds: int = ROUNDS, *processes: object) -> subprocess.Popen[bytes]:
    settings = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, "-m", "tests.experiments.killed_run", str(folder), str(rounds), *map(str, processes)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | settings)


def complete(folder: Path) -> set[int]:
    return {int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit()}


def saving(folder: Path) -> bool:
    return any((folder / "checkpoints").glob("*.orbax-checkpoint-tmp"))


def starts(folder: Path) -> list[int]:
    """The rounds from which processes went on."""
    path = folder / "starts.jsonl"
    return [json.loads(line)["round"] for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(process: subprocess.Popen[bytes], happened) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None
        assert time.monotonic() < deadline


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert start(folder, cache).wait() == 0
    return folder


def test_no_checkpoint_is_lost_and_nothing_is_done_twice(undisturbed, cache, tmp_path):
    random, during_saves = np.random.default_rng(0), 0
    for number in range(KILLS):
        before = complete(tmp_path)
        process = start(tmp_path, cache)
        if number % 3 == 0:
            wait_for(process, lambda number=number: len(starts(tmp_path)) > number and saving(tmp_path))
        else:
            wait_for(process, lambda before=before: complete(tmp_path) - before)
            time.sleep(random.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        during_saves += saving(tmp_path)
        assert not before or max(complete(tmp_path)) >= max(before)
    assert during_saves >= KILLS // 5

    newest = max(complete(tmp_path))
    assert start(tmp_path, cache).wait() == 0
    assert len(starts(tmp_path)) == KILLS + 1
    assert starts(tmp_path) == sorted(starts(tmp_path))
    assert starts(tmp_path)[-1] == newest
    assert (tmp_path / "metrics.jsonl").read_bytes() == (undisturbed / "metrics.jsonl").read_bytes()
    assert not saving(tmp_path)
    assert complete(tmp_path) == complete(undisturbed)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_a_signal_ends_the_process_with_its_code(cache, tmp_path, signum, code):
    process = start(tmp_path, cache)
    wait_for(process, lambda: complete(tmp_path))
    process.send_signal(signum)
    assert process.wait() == code
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert max(complete(tmp_path)) == len(lines) < ROUNDS
    assert not saving(tmp_path)


def on_processes(folder: Path, cache: Path, rounds: int, count: int) -> None:
    """Trains on four devices that belong to `count` processes."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    started = [start(folder, cache, rounds, 4 // count, *((coordinator, count, number) if count > 1 else ())) for number in range(count)]
    try:
        assert [process.wait(timeout=240) for process in started] == [0] * count
    finally:
        for process in started:
            process.kill()


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def on_one_process(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("straight")
    on_processes(folder, cache, 8, 1)
    return losses(folder)


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(4, 1), (1, 4)])
def test_other_processes_go_on(on_one_process, cache, tmp_path, counts):
    for rounds, count in zip((4, 8), counts, strict=True):
        on_processes(tmp_path, cache, rounds, count)
    np.testing.assert_allclose(losses(tmp_path), on_one_process, rtol=2e-5)
    assert starts(tmp_path) == [0, 4]
    assert max(complete(tmp_path)) == 8
