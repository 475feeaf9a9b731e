"""The execution plan: speed switches that may not change results beyond float rounding."""

import dataclasses
import functools
import logging
import math
import os
from typing import NamedTuple

import jax
from jax.sharding import AxisType, Mesh

from fedjax_edu.core.errors import ArgumentError, check_integer

AXIS = "clients"


class Layout(NamedTuple):
    """A resolved plan: devices, lanes of each device, rounds that one call of the compiled program runs at most."""

    mesh: Mesh
    lanes: int
    chunk: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExecutionPlan:
    """How the same mathematics is laid out on the hardware.

    Args:
        lanes: clients trained at the same time on each device; memory grows with it, results do not change.
            ``"auto"`` takes 8 on CPUs and 64 on accelerators, never more than the cohort has work for.
        mesh: devices with an axis named ``clients``; None is all devices of the default backend.
        chunk: rounds that one call of the compiled program runs at most.

    Raises:
        ArgumentError: a number below 1, or a mesh without the axis.

    >>> ExecutionPlan(lanes=4).lanes
    4
    """

    lanes: int | str = "auto"
    mesh: Mesh | None = None
    chunk: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "chunk", check_integer("chunk", self.chunk))
        if not (isinstance(self.lanes, str) and self.lanes == "auto"):
            object.__setattr__(self, "lanes", check_integer("lanes", self.lanes, remedy='use a positive integer, or "auto"'))
        if self.mesh is not None:
            if not isinstance(self.mesh, Mesh):
                raise ArgumentError("mesh", self.mesh, f"use jax.make_mesh((devices,), ({AXIS!r},))")
            if AXIS not in self.mesh.axis_names:
                raise ArgumentError("mesh", self.mesh.axis_names, f"name one axis {AXIS!r}")
            if set(self.mesh.axis_names) != {AXIS}:
                raise ArgumentError("mesh", self.mesh.axis_names, f"use a mesh whose only axis is {AXIS!r}")

    def resolve(self, capacity: int) -> "Layout":
        """The plan with everything decided for a cohort of at most `capacity` clients."""
        mesh = self.mesh or jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))
        if set(mesh.axis_types) != {AxisType.Auto}:
            mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
        platform = mesh.devices.flat[0].platform
        if platform == "cpu" and jax.device_count() == 1:
            _say_one_device(os.cpu_count() or 1)
        share = math.ceil(capacity / mesh.size)
        wanted = (8 if platform == "cpu" else 64) if isinstance(self.lanes, str) else self.lanes
        return Layout(mesh, int(max(1, min(wanted, share))), int(self.chunk))


@functools.cache
def _say_one_device(cores: int) -> None:
    if cores > 1:
        logging.getLogger("fedjax_edu").warning(
            "this engine runs on one CPU device of a machine with %d cores; call fe.configure() before any other use of JAX", cores
        )


def configure(cpu_devices: int | None = None) -> int:
    """Makes every core a JAX device of its own; call it first in a program that runs on CPUs.

    XLA runs one client's small matrices on one core; with a device for each core, lanes run on all of them.
    GPUs and TPUs are not touched.

    Args:
        cpu_devices: number of devices; None takes the cores that this process may use.

    Returns:
        The number of CPU devices.

    Raises:
        ArgumentError: not a positive integer, or JAX has started already with another number.
    """
    if cpu_devices is None:
        count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    else:
        count = check_integer("cpu_devices", cpu_devices, remedy="use a positive integer, or None for one a core")
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError as error:
        if len(jax.devices("cpu")) != count:
            found = len(jax.devices("cpu"))
            raise ArgumentError("cpu_devices", count, f"call fe.configure() before JAX starts; it runs with {found} already") from error
    return count
