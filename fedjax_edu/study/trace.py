"""Reading a trace of ``jax.profiler``: the seconds of its operations, by the part of a round that they belong to."""

import collections
import functools
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

PARTS = ("sample", "train", "flush", "aggregate", "server")  # the named scopes of a round, in engine/rounds.py and engine/lanes.py
OTHER = "other"
_PART = re.compile(rf"\b({'|'.join(PARTS)})\b")
_CONTAINERS = ("while", "conditional", "call")  # their time is that of the operations inside

# What is read of two formats, in their own words and numbers: XSpace (xplane.proto) and HloProto (hlo.proto). The rest is skipped.
_FORMATS: dict[str, dict[str, tuple[int, str]]] = {
    "XSpace": {"planes": (1, "XPlane")},
    "XPlane": {"lines": (3, "XLine"), "event_metadata": (4, "EventEntry"), "stat_metadata": (5, "StatEntry")},
    "XLine": {"events": (4, "XEvent")},
    "XEvent": {"duration_ps": (3, "int64"), "stats": (4, "XStat")},
    "EventEntry": {"value": (2, "XEventMetadata")},
    "XEventMetadata": {"name": (2, "string"), "stats": (5, "XStat")},
    "StatEntry": {"value": (2, "XStatMetadata")},
    "XStatMetadata": {"id": (1, "int64"), "name": (2, "string")},
    "XStat": {
        "metadata_id": (1, "int64"),
        "uint64_value": (3, "uint64"),
        "int64_value": (4, "int64"),
        "str_value": (5, "string"),
        "bytes_value": (6, "bytes"),
        "ref_value": (7, "uint64"),
    },
    "HloProto": {"hlo_module": (1, "HloModuleProto")},
    "HloModuleProto": {"computations": (3, "HloComputationProto"), "entry_computation_id": (6, "int64")},
    "HloComputationProto": {"instructions": (2, "HloInstructionProto"), "id": (5, "int64")},
    "HloInstructionProto": {
        "name": (1, "string"),
        "opcode": (2, "string"),
        "metadata": (7, "OpMetadata"),
        "called_computation_ids": (38, "int64"),
    },
    "OpMetadata": {"op_name": (2, "string")},
}
_REPEATED = {
    "planes",
    "lines",
    "events",
    "event_metadata",
    "stat_metadata",
    "stats",
    "computations",
    "instructions",
    "called_computation_ids",
}


def seconds_by_part(path: str | os.PathLike[str]) -> dict[str, float]:
    """Seconds that a trace's operations took, by the part of a round.

    The name of an operation in the compiled program says in which ``jax.named_scope`` it was traced, and a trace carries its
    programs. An operation without a name belongs where those that were fused into it do, or else where the loop or branch around it
    does. Loops and branches themselves are left out, since what is in them counts; so are programs that have no part of a round.

    Args:
        path: an ``.xplane.pb``.

    Returns:
        Seconds by the names of :data:`PARTS` and ``other``, summed over threads, streams and devices.
    """
    planes = _messages()["XSpace"].FromString(Path(path).read_bytes()).planes
    times: dict[tuple[str, int], dict[str, int]] = collections.defaultdict(lambda: collections.defaultdict(int))
    for plane in planes:
        names = {entry.value.id: entry.value.name for entry in plane.stat_metadata}
        for event in (event for line in plane.lines for event in line.events):
            program, operation = _timed(event, names)
            times[program][operation] += event.duration_ps
    seconds, programs = dict.fromkeys((*PARTS, OTHER), 0.0), list(_programs(planes))
    for program, operations in times.items():
        parts = _parts_of(_program(*program, operations, programs))
        for operation, duration in operations.items():
            if operation in parts:
                seconds[parts[operation]] += 1e-12 * duration
    return seconds


def _timed(event: Any, names: dict[int, str]) -> tuple[tuple[str, int], str]:
    """((name, id) of the program, operation) that an event timed; words are in the event or referred to, numbers have a sign or none."""
    found: dict[str, Any] = {}
    for stat in event.stats:
        words, number = stat.str_value or names.get(stat.ref_value, ""), stat.uint64_value or stat.int64_value
        found[names[stat.metadata_id]] = words or number
    return (str(found.get("hlo_module", "")), int(found.get("program_id", 0))), str(found.get("hlo_op", ""))


def _programs(planes: Any) -> Iterator[tuple[str, int, Any]]:
    """(name, id, module) of every program in a trace; their entries are called ``name(id)``."""
    for plane in planes:
        for entry in plane.event_metadata:
            for stat in entry.value.stats:
                if stat.bytes_value and (named := re.fullmatch(r"(.*)\((\d+)\)", entry.value.name)):
                    yield named[1], int(named[2]), _messages()["HloProto"].FromString(stat.bytes_value).hlo_module


def _program(name: str, number: int, operations: Collection[str], programs: Sequence[tuple[str, int, Any]]) -> Any:
    """The program that has these operations.

    One that came out of the cache of compiled programs is timed under the id that it had where it was compiled: there the name decides,
    and of several, which has most of the operations, and which is newest.
    """

    def fit(candidate: tuple[str, int, Any]) -> tuple[bool, int, int]:
        own = {one.name for computation in candidate[2].computations for one in computation.instructions}
        return candidate[1] == number, len(own & set(operations)), candidate[1]

    candidates = [candidate for candidate in programs if candidate[0] == name]
    return max(candidates, key=fit)[2] if candidates else _messages()["HloModuleProto"]()


def _parts_of(module: Any) -> dict[str, str]:
    """The part of each operation of a program; nothing of a program that has none of them."""
    computations = {computation.id: computation.instructions for computation in module.computations}
    own = {one.name: _named(one) for inside in computations.values() for one in inside}
    if not any(own.values()):
        return {}
    found: dict[str, str] = {}

    def walk(instructions: Any, around: str) -> None:
        for one in instructions:
            called = [computations[number] for number in one.called_computation_ids]
            fused = [own[two.name] for inside in called for two in inside if one.opcode == "fusion"]
            part = own[one.name] or next(filter(None, fused), around)
            if one.opcode not in _CONTAINERS:
                found[one.name] = part
            for inside in called:
                walk(inside, part)

    walk(computations[module.entry_computation_id], OTHER)
    return found


def _named(instruction: Any) -> str:
    """The outermost part in an operation's name, for instance of ``jit(run_chunk)/while/body/server/mul``; "" without one."""
    part = _PART.search(instruction.metadata.op_name)
    return part[0] if part else ""


@functools.cache
def _messages() -> dict[str, Any]:
    """A class for each of the formats' messages."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    types = {"string": field.TYPE_STRING, "bytes": field.TYPE_BYTES, "int64": field.TYPE_INT64, "uint64": field.TYPE_UINT64}
    file = descriptor_pb2.FileDescriptorProto(name="trace.proto", package="trace", syntax="proto3")
    for message, fields in _FORMATS.items():
        added = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            label = field.LABEL_REPEATED if name in _REPEATED else field.LABEL_OPTIONAL
            if kind in types:
                added.field.add(name=name, number=number, label=label, type=types[kind])
            else:
                added.field.add(name=name, number=number, label=label, type=field.TYPE_MESSAGE, type_name=f".trace.{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {message: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"trace.{message}")) for message in _FORMATS}
