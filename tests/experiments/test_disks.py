"""Runs on a file system that is full or read-only: a small one in memory, mounted for this test alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALONE = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-euc"]  # in a name space of its own anybody may mount
RUN = f"{sys.executable} -m tests.experiments.killed_run"


def allowed() -> bool:
    """Whether this machine lets us mount."""
    try:
        return not subprocess.run([*ALONE, "mount -t tmpfs -o size=1m tmpfs /tmp"], capture_output=True, check=False).returncode
    except FileNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not allowed(), reason="this machine allows no mounts")


def mounted(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Runs a script beside a file system of 400 kB at $DISK; what it copies to `folder` stays."""
    settings = {"DISK": str(folder / "disk"), "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    (folder / "disk").mkdir(exist_ok=True)
    commands = f'mount -t tmpfs -o size=400k tmpfs "$DISK"\n{script}'
    return subprocess.run([*ALONE, commands], cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, timeout=240, check=False)


def test_a_run_goes_on_where_a_full_disk_ended_it(tmp_path):
    script = f"""
        {RUN} $DISK/run 4
        ls $DISK/run/checkpoints > {tmp_path}/before
        cat /dev/zero > $DISK/filler || true  # until nothing more fits
        {RUN} $DISK/run 12 2> {tmp_path}/errors && exit 9
        ls $DISK/run/checkpoints > {tmp_path}/after
        rm $DISK/filler
        {RUN} $DISK/run 12
        cp $DISK/run/metrics.jsonl {tmp_path}
        {RUN} {tmp_path}/straight 12
    """
    done = mounted(tmp_path, script)
    assert done.returncode == 0, done.stderr
    assert "make room, or name a folder you may write to; what was complete is as it was" in (tmp_path / "errors").read_text()
    complete = [{line for line in (tmp_path / name).read_text().split() if line.isdigit()} for name in ("before", "after")]
    assert complete[0] <= complete[1]
    assert (tmp_path / "metrics.jsonl").read_bytes() == (tmp_path / "straight" / "metrics.jsonl").read_bytes()


def test_a_disk_that_is_full_at_a_save_ends_the_program_with_one_line(tmp_path):
    """Small files still fit."""
    script = f"""
        {RUN} $DISK/run 4
        cat /dev/zero > $DISK/filler || true
        truncate --size=-24k $DISK/filler
        {sys.executable} -m tests.experiments.started_run $DISK/run 12 2> {tmp_path}/errors && exit 9
        true
    """
    done = mounted(tmp_path, script)
    assert done.returncode == 0, done.stderr
    *warnings, last = (tmp_path / "errors").read_text().splitlines()
    assert last.startswith("CheckpointError: workdir: got ") and "make room" in last
    assert all("fe.configure()" in warning for warning in warnings)


def test_a_folder_that_is_read_only_is_refused_and_left_as_it_is(tmp_path):
    script = f"""
        {RUN} $DISK/run 4
        find $DISK/run -type f | sort | xargs sha256sum > {tmp_path}/before
        mount -o remount,ro $DISK
        {RUN} $DISK/run 12 2> {tmp_path}/errors && exit 9
        find $DISK/run -type f | sort | xargs sha256sum > {tmp_path}/after
    """
    done = mounted(tmp_path, script)
    assert done.returncode == 0, done.stderr
    assert "ArgumentError: workdir: got " in (tmp_path / "errors").read_text()
    assert "name a folder you may write to" in (tmp_path / "errors").read_text()
    assert (tmp_path / "before").read_text() == (tmp_path / "after").read_text()
