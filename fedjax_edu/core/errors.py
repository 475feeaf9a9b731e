"""Typed errors: each names the argument, the value it was given and what would be right."""


class FedjaxEduError(Exception):
    """Base class of every error that fedjax_edu raises on purpose."""


class ArgumentError(FedjaxEduError, ValueError):
    """An argument has a value that cannot work.

    The message is always ``argument: got value; remedy``, so that a log line is enough to repair the call.

    Args:
        argument: name of the argument as the caller wrote it, dotted where nested (``local.batch_size``).
        value: the offending value; shown through ``repr``, cut at 200 characters.
        remedy: what would be right, as an imperative sentence.

    >>> raise ArgumentError("batch_size", 0, "use a positive integer, or None for the whole client")
    Traceback (most recent call last):
    ...
    fedjax_edu.core.errors.ArgumentError: batch_size: got 0; use a positive integer, or None for the whole client
    """

    def __init__(self, argument: str, value: object, remedy: str):
        shown = value if isinstance(value, str) else repr(value)
        shown = shown if len(shown) <= 200 else f"{shown[:197]}..."
        super().__init__(f"{argument}: got {shown}; {remedy}")
        self.argument, self.value, self.remedy = argument, value, remedy


class DataError(ArgumentError):
    """The arrays of a population contradict each other or hold values that no model can read."""


class LossError(ArgumentError):
    """A loss function returned something that is not one finite-precision number per example."""


class MissingDependencyError(FedjaxEduError, ImportError):
    """An optional package is needed for this call; the message carries the pip command."""


class ConfigError(ArgumentError):
    """A configuration file or flag names a field that does not exist or has the wrong type."""
