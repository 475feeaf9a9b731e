"""What all tests of models share."""

from tests.quick import quick_compilation

__all__ = ["quick_compilation"]  # in every module
