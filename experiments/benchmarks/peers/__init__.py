"""Rivals, each a persistent process that trains when it is told to."""
