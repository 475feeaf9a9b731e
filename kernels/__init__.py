"""Accelerator kernels: each file holds one computation, its reference and, where it pays, a faster form by platform."""

from fedjax_edu.kernels.permutation import swap_or_not

__all__ = ["swap_or_not"]
