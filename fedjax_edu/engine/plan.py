"""The execution plan: speed switches that may not change results beyond float rounding."""

import dataclasses
import functools
import logging
import math
import os
from typing import NamedTuple

import jax
from jax.sharding import AxisType, Mesh

from fedjax_edu.core.errors import ArgumentError, check_flag, check_integer
from fedjax_edu.engine.partition import MODEL, Rule

AXIS = "clients"
STREAM_BYTES = 256 * 2**20


class Layout(NamedTuple):
    """A resolved plan.

    Args:
        mesh: devices; its axis ``model``, if any, has at least two.
        lanes: of each device; None until parameters are known, of which it depends how many are best.
        reason: why so many.
        chunk: rounds that one call of the compiled program runs at most.
        budget: bytes of each device through which rows stream; None where they are resident.
        host_states: whether the clients' own states live on the host.
        partition: which leaves are split over the axis ``model``, and how.
        donate: whether rounds write over the state that they start from.
    """

    mesh: Mesh
    lanes: int | None
    reason: str
    chunk: int
    budget: int | None
    host_states: bool
    partition: Rule | None
    donate: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExecutionPlan:
    """How the same mathematics is laid out on the hardware.

    Args:
        lanes: clients trained at the same time on each device; memory grows with it, results do not change.
            ``"auto"`` times the local step with a few numbers of lanes when it first sees parameters, keeps what it measured on disk
            and takes the fastest; it logs its reason, which is ``engine.layout.reason`` too.
        mesh: devices with an axis named ``clients``, and perhaps a second named ``model``; None is all devices of the default backend,
            each for itself. With the second axis as many devices as it is long train each client together, and each holds a slice of
            the model, of what optimisers and clients remember, and of the updates. A loss must not loop or branch by its data then:
            devices wait for each other, and have to take the same way.
        chunk: rounds that one call of the compiled program runs at most.
        resident_bytes: what rows of the population may take of each device. A larger population, and one whose rows are read by a
            loader, streams: the rows of the next chunk's clients are read while the present chunk runs. None keeps arrays on the
            devices whatever they take, and gives a loader 256 MiB. Over several processes None streams arrays too, so that each process
            reads the rows of its own devices alone; a number that the rows fit into keeps a copy of all of them on every device.
        client_states: where the clients' own states live: "device", or "host", from which a chunk is given those of its clients; each of
            several processes has them all.
        partition: how parameters are split over the axis ``model``: ``(dotted name, leaf) -> PartitionSpec``, for instance
            ``lambda name, leaf: PartitionSpec(None, "model") if name.startswith("backbone.") else PartitionSpec()``. None splits the
            largest dimension that the axis divides of every leaf with two or more, and keeps all others whole. Whatever else has a
            parameter's name and shape (moments, control variates, residuals) is split as the parameter is.
        donate: whether :meth:`Engine.run` writes over the state that it is given, which is of no use afterwards, instead of leaving it
            valid; with large client states that saves a copy of all of them a call. What streams is never written over.

    Raises:
        ArgumentError: a number below 1, a mesh with other axes, a partition without the axis ``model``, or an unknown place.

    >>> ExecutionPlan(lanes=4).lanes
    4
    """

    lanes: int | str = "auto"
    mesh: Mesh | None = None
    chunk: int = 64
    resident_bytes: int | None = None
    client_states: str = "device"
    partition: Rule | None = None
    donate: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "chunk", check_integer("chunk", self.chunk))
        if self.resident_bytes is not None:
            object.__setattr__(self, "resident_bytes", check_integer("resident_bytes", self.resident_bytes))
        object.__setattr__(self, "donate", check_flag("donate", self.donate))
        if self.client_states not in ("device", "host"):
            raise ArgumentError("client_states", self.client_states, 'use "device" or "host"')
        if not (isinstance(self.lanes, str) and self.lanes == "auto"):
            object.__setattr__(self, "lanes", check_integer("lanes", self.lanes, remedy='use a positive integer, or "auto"'))
        if self.mesh is not None:
            self._check_mesh(self.mesh)
        if self.partition is not None:
            if not callable(self.partition):
                raise ArgumentError("partition", self.partition, "use a function (dotted name, leaf) -> jax.sharding.PartitionSpec")
            if self.mesh is None or MODEL not in self.mesh.axis_names:
                axes = None if self.mesh is None else self.mesh.axis_names
                raise ArgumentError("mesh", axes, f"give `partition` a mesh with the axes {AXIS!r} and {MODEL!r}")

    @staticmethod
    def _check_mesh(mesh: Mesh) -> None:
        if not isinstance(mesh, Mesh):
            raise ArgumentError("mesh", mesh, f"use jax.make_mesh((devices,), ({AXIS!r},))")
        if AXIS not in mesh.axis_names:
            raise ArgumentError("mesh", mesh.axis_names, f"name one axis {AXIS!r}")
        if mesh.axis_names not in ((AXIS,), (AXIS, MODEL)):
            raise ArgumentError("mesh", mesh.axis_names, f"use the axis {AXIS!r} alone, or {AXIS!r} first and {MODEL!r} second")
        missing = set(range(jax.process_count())) - {device.process_index for device in mesh.devices.flat}
        if mesh.is_multi_process and missing:
            raise ArgumentError("mesh", f"no device of process {min(missing)}", "use devices of every process, or of one alone")
        for group in mesh.devices.reshape(len(mesh.devices), -1):
            if len(owners := sorted({device.process_index for device in group})) > 1:
                raise ArgumentError("mesh", f"a model over devices of processes {owners}", f"keep the axis {MODEL!r} inside each process")

    def resolve(self, capacity: int, row_bytes: int | None = 0) -> "Layout":
        """The plan with everything decided for a cohort of at most `capacity` clients and rows of `row_bytes` in all (None: a loader)."""
        mesh = self.mesh or jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))
        if set(mesh.axis_types) != {AxisType.Auto}:
            mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
        if MODEL in mesh.axis_names and mesh.shape[MODEL] == 1:
            mesh = Mesh(mesh.devices[:, 0], (AXIS,), axis_types=(AxisType.Auto,))
        platform = mesh.devices.flat[0].platform
        if platform == "cpu" and jax.device_count() == 1:
            _say_one_device(os.cpu_count() or 1)
        share = math.ceil(capacity / mesh.shape[AXIS])
        lanes: int | None
        if not isinstance(self.lanes, str):
            lanes, reason = int(max(1, min(self.lanes, share))), "as asked for"
        else:
            lanes, reason = (None, "not known before parameters are") if share > 1 else (1, "a device has no more than one client")
        on_host = self.client_states == "host"
        return Layout(mesh, lanes, reason, int(self.chunk), self._budget(mesh, row_bytes), on_host, self.partition, self.donate)

    def _budget(self, mesh: Mesh, row_bytes: int | None) -> int | None:
        """Bytes of each device through which rows stream; None where they are resident."""
        if row_bytes is None:
            return self.resident_bytes or STREAM_BYTES
        if self.resident_bytes is not None:
            return self.resident_bytes if row_bytes > self.resident_bytes or self.client_states == "host" else None
        if mesh.is_multi_process:  # four times an equal share of the rows: two chunks, and one device may have more than another
            return min(2 * row_bytes, max(STREAM_BYTES, 4 * row_bytes // mesh.shape[AXIS]))
        return 2 * row_bytes if self.client_states == "host" else None


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
