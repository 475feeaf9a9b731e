"""Bugs to plant, by the part of the package that has them."""

from tests.mutants import algorithms, data, engine, study

MUTANTS = (*data.MUTANTS, *engine.MUTANTS, *algorithms.MUTANTS, *study.MUTANTS)
