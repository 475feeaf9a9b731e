"""Reading a trace of ``jax.profiler``: the seconds of its operations, by the part of a round that they belong to."""

import functools
import os
import re
from collections.abc import Iterator
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
    parts = {(program, name): part for program, module in _programs(planes) for name, part in _parts_of(module).items()}
    seconds = dict.fromkeys((*PARTS, OTHER), 0.0)
    for plane in planes:
        names = {entry.value.id: entry.value.name for entry in plane.stat_metadata}
        for event in (event for line in plane.lines for event in line.events):
            part = parts.get(_operation(event, names))
            if part is not None:
                seconds[part] += 1e-12 * event.duration_ps
    return seconds


def _operation(event: Any, names: dict[int, str]) -> tuple[int, str]:
    """(program, name) of the operation that an event timed; words are in the event or referred to, numbers have a sign or none."""
    program, name = 0, ""
    for stat in event.stats:
        match names.get(stat.metadata_id):
            case "program_id":
                program = stat.uint64_value or stat.int64_value
            case "hlo_op":
                name = stat.str_value or names.get(stat.ref_value, "")
    return program, name


def _programs(planes: Any) -> Iterator[tuple[int, Any]]:
    """(id, module) of every program in a trace; their entries are called ``name(id)``."""
    for plane in planes:
        for entry in plane.event_metadata:
            for stat in entry.value.stats:
                if stat.bytes_value and (named := re.search(r"\((\d+)\)$", entry.value.name)):
                    yield int(named[1]), _messages()["HloProto"].FromString(stat.bytes_value).hlo_module


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
