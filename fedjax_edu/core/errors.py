"""Typed errors: each names the argument, the value it was given and what would be right."""

import importlib.util
import math
import numbers
import sys

import jax
import numpy as np

_FEW = 8  # elements of an array that a message shows one by one


class FedjaxEduError(Exception):
    """Base class of every error that fedjax_edu raises on purpose."""


class ArgumentError(FedjaxEduError, ValueError):
    """An argument has a value that cannot work.

    The message is always ``argument: got value; remedy``, so that a log line is enough to repair the call.

    Args:
        argument: name of the argument as the caller wrote it, dotted where nested (``local.batch_size``).
        value: the offending value, or words that describe it; shown by :func:`shown`.
        remedy: what would be right, as an imperative sentence.

    >>> raise ArgumentError("batch_size", 0, "use a positive integer, or None for the whole client")
    Traceback (most recent call last):
    ...
    fedjax_edu.core.errors.ArgumentError: batch_size: got 0; use a positive integer, or None for the whole client
    """

    def __init__(self, argument: str, value: object, remedy: str):
        super().__init__(f"{argument}: got {shown(value)}; {remedy}")
        self.argument, self.value, self.remedy = argument, value, remedy


class DataError(ArgumentError):
    """The arrays of a population contradict each other or hold values that no model can read."""


class LossError(ArgumentError):
    """A loss function returned something that is not one finite-precision number per example."""


class MissingDependencyError(FedjaxEduError, ImportError):
    """An optional package is needed for this call; the message carries the pip command."""


def require(work: str, extra: str | None, *packages: str) -> None:
    """Makes sure that optional packages are installed, before any of the work that needs them.

    Args:
        work: what needs them, as errors call it.
        extra: the extra of fedjax_edu that installs them; None: they are installed by their own names.
        *packages: names to import.

    Raises:
        MissingDependencyError: the first that is missing, with the pip command.

    >>> require("it", "tpu", "numpy", "absent")
    Traceback (most recent call last):
    ...
    fedjax_edu.core.errors.MissingDependencyError: absent: not installed; it needs it: pip install "fedjax_edu[tpu]", in a clone -e ".[tpu]"
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            wanted = package if extra is None else f'"fedjax_edu[{extra}]", in a clone -e ".[{extra}]"'
            raise MissingDependencyError(f"{package}: not installed; {work} needs it: pip install {wanted}")


class ConfigError(ArgumentError):
    """A configuration file or flag names a field that does not exist or has the wrong type."""


class CheckpointError(ArgumentError):
    """A checkpoint cannot be written or read, or belongs to another run."""


def shown(value: object) -> str:
    """A value in one line of at most 200 characters: arrays as dtype[shape], words as they are, anything else through ``repr``.

    Words that read like another value stand in quotes.

    >>> shown(np.ones((20, 3))), shown(np.array([1, 1], np.int32)), shown("float32[2, 1]"), shown("20")
    ('float64[20, 3]', 'int32[2] [1, 1]', 'float32[2, 1]', "'20'")
    """
    if isinstance(value, (np.ndarray, jax.Array)):
        few = isinstance(value, np.ndarray) and value.size <= _FEW
        text = f"{value.dtype}{list(value.shape)}" + (f" {value.tolist()}" if few else "")
    else:
        text = value if isinstance(value, str) and not _reads_as_value(value) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def check_integer(argument: str, value: object, *, at_least: int = 1, remedy: str = "") -> int:
    """A whole number, not below a bound, as a Python integer.

    Raises:
        ArgumentError: a boolean, a fraction, anything that is not a number, or a number below the bound.

    >>> check_integer("batch_size", np.int64(20))
    20
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < at_least:
        bound = "use a positive integer" if at_least == 1 else f"use an integer, {at_least} or more"
        raise ArgumentError(argument, value, remedy or bound)
    return int(value)


def check_positive(argument: str, value: object, *, at_most: int | float = sys.float_info.max, remedy: str = "") -> float:
    """A positive finite number, not above a bound, as a Python float.

    Raises:
        ArgumentError: a boolean, anything that is not a number, or a number outside (0, at_most].

    >>> check_positive("rate", np.float32(0.5), at_most=1.0)
    0.5
    """
    number = _real(value)
    if not 0 < number <= at_most:
        raise ArgumentError(argument, value, remedy or "use a positive finite number")
    return number


def check_number(argument: str, value: object, *, at_least: int | float = -math.inf, below: int | float = math.inf) -> float:
    """A finite number within bounds, as a Python float.

    Raises:
        ArgumentError: a boolean, anything that is not a number, or a number outside [at_least, below).

    >>> check_number("momentum", 0, at_least=0, below=1)
    0.0
    """
    number = _real(value)
    if not (math.isfinite(number) and at_least <= number < below):
        bounds = "" if math.isinf(at_least) else f", {at_least} or more" if math.isinf(below) else f" in [{at_least}, {below})"
        raise ArgumentError(argument, value, f"use a finite number{bounds}")
    return number


def check_share(argument: str, value: object) -> float:
    """A number from 0 to 1, as a Python float.

    Raises:
        ArgumentError: a boolean, anything that is not a number, or a number outside [0, 1].

    >>> check_share("overlap", 1)
    1.0
    """
    number = _real(value)
    if not 0 <= number <= 1:
        raise ArgumentError(argument, value, "use a number from 0 to 1")
    return number


def check_flag(argument: str, value: object) -> bool:
    """A switch.

    Raises:
        ArgumentError: neither True nor False.

    >>> check_flag("per_module", True)
    True
    """
    if not isinstance(value, bool):
        raise ArgumentError(argument, value, "use True or False")
    return value


def _real(value: object) -> float:
    """A number as a Python float; NaN for a boolean and for anything that is no number."""
    return math.nan if isinstance(value, bool) or not isinstance(value, numbers.Real) else float(value)


def _reads_as_value(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in ("", "True", "False", "None")
    return True
