"""What the programs share: a configuration file as a flag, little noise, and mistakes as one line instead of a traceback."""

import re
import sys
from collections.abc import Callable

from absl import app, flags, logging
from ml_collections import config_flags

import fedjax_edu as fe

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="What to run: a file of experiments/configs; --config.rounds=50 sets a field."
)
flags.mark_flag_as_required("config")


def run(work: Callable[[fe.study.SchoolsConfig], object]) -> None:
    """Reads the flags and the configuration, uses every core, and calls `work`."""

    def main(argv: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)
        config = fe.study.SchoolsConfig.from_mapping(_CONFIG.value.to_dict())
        fe.configure()
        work(config)

    try:
        app.run(main, flags_parser=_parse)
    except fe.errors.FedjaxEduError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def _parse(argv: list[str]) -> list[str]:
    """The flags; a field that the configuration file lacks, or a file that is not there, is a ``ConfigError`` that names it."""
    given = dict(argument.lstrip("-").split("=", 1) for argument in argv if re.match(r"--?config[\w.]*=", argument))
    try:
        return app.parse_flags_with_usage(argv)
    except OSError as error:
        raise fe.errors.ConfigError(
            "config", given.get("config"), "name a configuration file, experiments/configs/schools.py for one"
        ) from error
    except AttributeError as error:
        unknown = next(field for field in given if re.search(rf"\b{field.split('.')[-1]}\b", str(error)))
        hint = re.search(r"Did you mean .*\?", str(error))
        remedy = f"remove it, or use a field of the configuration file. {hint[0] if hint else ''}".strip()
        raise fe.errors.ConfigError(unknown, given[unknown], remedy) from error
