"""Makes a table of the synthetic world and writes it."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from fedjax_edu.core.errors import ArgumentError, ConfigError, require
from fedjax_edu.study.console import Printer, standard_output
from fedjax_edu.study.provenance import versions
from fedjax_edu.study.run_folder import RunFolder
from fedjax_edu.study.tables import Table
from fedjax_edu.study.worlds import adapting, missing, pairs, together
from fedjax_edu.study.worlds.setting import SettingConfig

TABLES: dict[str, tuple[type[SettingConfig], Callable[..., Table]]] = {
    "together": (together.TogetherConfig, together.make_table),
    "missing": (missing.MissingConfig, missing.make_table),
    "adapting": (adapting.AdaptingConfig, adapting.make_table),
    "pairs": (pairs.PairsConfig, pairs.make_table),
}


def world_config(mapping: Mapping[str, Any]) -> SettingConfig:
    """The configuration of the table that a mapping names.

    Args:
        mapping: ``table`` and the fields of its configuration.

    Raises:
        ConfigError: no such table; an unknown, missing or ill-typed field.
    """
    name = mapping.get("table")
    if name not in TABLES:
        raise ConfigError("config.table", name, f"use one of {', '.join(TABLES)}")
    return TABLES[name][0].from_mapping({field: value for field, value in mapping.items() if field != "table"})


def run_world(config: SettingConfig, workdir: str | os.PathLike[str], *, seeds: int = 3, console: Printer | None = None) -> Table:
    """A table about the synthetic world.

    Args:
        config: of one of :data:`TABLES`.
        workdir: receives ``<table>.json``, ``<table>.md``, ``config.json`` and ``versions.json``.
        seeds: how many, from the configuration's own upwards.
        console: where progress and the table go; None is standard output.

    Returns:
        The table.

    Raises:
        ArgumentError: seeds out of range, or a folder that cannot be written.
    """
    require("the world study", "study", "sklearn")
    if seeds < 1:
        raise ArgumentError("seeds", seeds, "use a positive integer")
    name, make = next((name, make) for name, (kind, make) in TABLES.items() if kind is type(config))
    folder, console = RunFolder(workdir), console or standard_output()
    folder.write_json("config.json", config)
    folder.write_json("versions.json", versions())
    table = make(config, range(config.seed, config.seed + seeds), lambda line: console.print(line, highlight=False))
    folder.write_json(f"{name}.json", {"columns": list(table.columns), "rows": [list(row) for row in table.rows], "note": table.note})
    folder.write_text(f"{name}.md", table.markdown())
    console.print(table.markdown(), highlight=False)
    return table
