"""Errors of the benchmark."""

import fedjax_edu as fe


class BenchmarkError(fe.errors.FedjaxEduError):
    """A rival cannot be installed, started or talked to."""
