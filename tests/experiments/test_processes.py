"""Programs of several processes: they part in peace, and when one is killed the others end and say so."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("endless_rounds.py")
CONFIG = "--config=experiments/configs/schools.py"


def start(count, *words):
    with socket.create_server(("127.0.0.1", 0)) as free:
        coordinator = f"--coordinator=127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, str(PROGRAM), coordinator, f"--processes={count}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": os.environ | {"PYTHONPATH": str(ROOT)}}
    return [subprocess.Popen([*command, f"--process_id={number}", *words], **pipes) for number in range(count)]


@pytest.fixture
def running():
    """Starts processes and leaves none behind."""
    started = []

    def begin(count, *words):
        started.extend(start(count, *words))
        return started

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("victim", [1, 0], ids=["a process", "process 0"])
def test_a_killed_process_ends_the_others_with_one_clear_line(running, victim):
    processes = running(3)
    for process in processes:
        assert any(line.startswith("3 processes") for line in iter(process.stdout.readline, ""))  # after what Gloo prints
    killed = time.monotonic()
    processes[victim].send_signal(signal.SIGKILL)
    others = [number for number in range(3) if number != victim]
    told = [said_at_the_end(processes[number], number, {victim, 0}) for number in others]
    assert time.monotonic() - killed < 60
    assert victim == 0 or told[0]  # process 0 knows, and stays until the others do


def said_at_the_end(process, number, gone):
    """Whether a process that ended for another says so; JAX may be quicker to end one whose process 0 is gone."""
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    said = [line for line in errors.splitlines() if line.startswith("ProcessError: ")]
    if not said:
        assert "Failed to send RPC to coordination service" in errors
        return False
    ended = "ProcessError: process {} of 3 has ended or cannot be reached, so process {} ends too; see"
    assert len(said) == 1 and said[0].startswith(tuple(ended.format(one, number) for one in gone))
    assert "Traceback" not in errors
    return True


def test_processes_part_in_peace(running):
    for process in running(2, "once"):
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert "2 processes" in output and "ProcessError" not in errors and "Traceback" not in errors


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--coordinator=here", "--processes=2", "--process_id=0"), "ConfigError: coordinator: got here; use HOST:PORT"),
        (("--processes=2",), "ConfigError: processes: got coordinator=None, processes=2, process_id=None; set all three"),
        (("--distributed",), "ConfigError: processes: got coordinator=None, processes=None, process_id=None; set all three"),
    ],
)
def test_flags_that_do_not_say_where_to_meet_end_the_program_with_one_line(flags, message):
    command = [sys.executable, "-m", "experiments.train", CONFIG, *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(message)
    assert "Traceback" not in done.stderr
