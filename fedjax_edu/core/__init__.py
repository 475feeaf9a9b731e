"""The vocabulary of the engine: algorithm and link types, pytrees, modules, keys, typed errors, weighted statistics."""
