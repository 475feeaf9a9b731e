"""Personalisation of a trained federation's predictions."""

from fedjax_edu.personalization.nearest import nearest_neighbours

__all__ = ["nearest_neighbours"]
