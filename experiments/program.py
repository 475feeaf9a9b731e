"""What the programs share: a configuration file as a flag, little noise, and mistakes as one line instead of a traceback."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
from absl import app, flags, logging
from ml_collections import config_flags

import fedjax_edu as fe
from experiments.processes import together

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="What to run: a file of experiments/configs; --config.rounds=50 sets a field."
)
flags.mark_flag_as_required("config")
OWN_TABLE = Path(__file__).with_name("configs") / "table.py"

Configuration = TypeVar("Configuration", bound=fe.study.Config)


def run(kind: type[Configuration], work: Callable[[Configuration], object]) -> None:
    """Reads the flags and the configuration, uses every core, meets the other processes if there are any, and calls `work`.

    Args:
        kind: what the configuration file describes.
        work: the program.
    """

    def main(argv: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)
        config = kind.from_mapping(_fields())
        fe.configure()
        _keep_compiled_programs()
        with together():
            work(config)

    try:
        app.run(main, flags_parser=_parse)
    except fe.errors.FedjaxEduError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def _keep_compiled_programs() -> None:
    """A second run of the same programs starts without compiling them; ``JAX_COMPILATION_CACHE_DIR`` names another folder."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(fe.data.data_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _parse(argv: list[str]) -> list[str]:
    """The flags; where a table is given and no configuration, the one for tables.

    Raises:
        ConfigError: a field that the configuration file lacks.
    """
    names = {argument.lstrip("-").partition("=")[0] for argument in argv[1:]}
    added = [f"--config={OWN_TABLE}"] if "csv" in names and "config" not in names else []  # before its fields, which it makes known
    try:
        return app.parse_flags_with_usage([*argv[:1], *added, *argv[1:]])
    except AttributeError as error:
        given = dict(argument.lstrip("-").split("=", 1) for argument in argv if re.match(r"--?config\.[\w.]+=", argument))
        unknown = next(field for field in given if re.search(rf"\b{field.split('.')[-1]}\b", str(error)))
        hint = re.search(r"Did you mean .*\?", str(error))
        remedy = f"remove it, or use a field of the configuration file. {hint[0] if hint else ''}".strip()
        raise fe.errors.ConfigError(unknown, given[unknown], remedy) from error


def _fields() -> dict[str, Any]:
    try:
        return _CONFIG.value.to_dict()
    except OSError as error:  # the flag holds back what went wrong until somebody wants its value
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        raise fe.errors.ConfigError(
            "config", path, "name a configuration file that can be read, experiments/configs/schools.py for one"
        ) from error
