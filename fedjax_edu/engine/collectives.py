"""What devices send each other in a compiled program, read from its text."""

import math
import re

_BITS = {"pred": 8, "bf16": 16, "c64": 64, "c128": 128}
_COLLECTIVE = re.compile(r"= (.*?) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")


def count_bytes(program: str, devices: int) -> dict[str, int]:
    """Bytes that each device contributes to the collectives of a compiled program, by kind; those in a loop count once.

    Args:
        program: its HLO.
        devices: that a collective spans.

    >>> count_bytes("%s = (f32[3,2], s32[]) all-reduce(%a, %b), to_apply=%add", devices=2)
    {'all-reduce': 28}
    >>> count_bytes("%s = f32[8]{0} all-gather(%a), dimensions={0}", devices=2)
    {'all-gather': 16}
    """
    found: dict[str, int] = {}
    for shapes, kind in _COLLECTIVE.findall(program):
        size = sum(
            math.prod(map(int, filter(None, sides.split(",")))) * _bytes(dtype) for dtype, sides in re.findall(r"(\w+)\[([\d,]*)\]", shapes)
        )
        contributed = {"all-gather": size // devices, "reduce-scatter": size * devices}.get(kind, size)
        found[kind] = found.get(kind, 0) + contributed
    return found


def _bytes(dtype: str) -> int:
    bits = _BITS.get(dtype) or int(re.sub(r"\D", "", dtype))
    return bits // 8
