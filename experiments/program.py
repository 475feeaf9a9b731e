"""What most programs share: a configuration file as a flag, and several processes."""

import re
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from absl import flags
from ml_collections import config_flags

import fedjax_edu as fe
from experiments.processes import together
from experiments.start import parse_flags, prepare_jax, start

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="What to run: a file of experiments/configs; --config.rounds=50 sets a field."
)
flags.mark_flag_as_required("config")
OWN_TABLE = Path(__file__).with_name("configs") / "table.py"

Configuration = TypeVar("Configuration", bound=fe.study.Config)


def run(read: Callable[[Mapping[str, Any]], Configuration], work: Callable[[Configuration], object]) -> None:
    """Reads the flags and the configuration, uses every core, meets the other processes if there are any, and calls `work`.

    Args:
        read: makes a configuration of what the file says.
        work: the program.
    """

    def main() -> None:
        config = read(_fields())
        prepare_jax()
        with together():
            work(config)

    start(main, _parse)


def run_folder() -> str:
    """The folder of a run whose flags name none: ``runs/m3t-dense`` for ``experiments/configs/m3t.py:dense``."""
    file, _, kind = config_flags.get_config_filename(flags.FLAGS["config"]).partition(".py")
    return "runs/" + re.sub(r"[^\w.-]+", "-", Path(file).name + kind)


def _parse(argv: list[str]) -> list[str]:
    """The flags; where a table is given and no configuration, the one for tables.

    Raises:
        ConfigError: a field that the configuration file lacks; a file that cannot be run.
    """
    names = {argument.lstrip("-").partition("=")[0] for argument in argv[1:]}
    if not names & {"config", "csv", "help", "helpfull", "helpshort", "helpxml", "h", "?", "flagfile"}:
        raise fe.errors.ConfigError("config", "nothing", "name a configuration file: --config=experiments/configs/m3t.py")
    added = [f"--config={OWN_TABLE}"] if "csv" in names and "config" not in names else []  # before its fields, which it makes known
    try:
        return parse_flags([*argv[:1], *added, *argv[1:]])
    except (AttributeError, KeyError) as error:
        if "get_config" in str(error) or _places(argv, error):
            raise _broken(argv, error) from error
        given = dict(argument.lstrip("-").split("=", 1) for argument in argv if re.match(r"--?config\.[\w.]+=", argument))
        found = (field for field in given if any(re.search(rf"\b{part}\b", str(error)) for part in field.split(".")[1:]))
        if (unknown := next(found, None)) is None:  # its value is another word of the command line
            raise fe.errors.ConfigError("config", " ".join(argv[1:]), f"use --config.FIELD=VALUE with a known field: {error}") from error
        hint = re.search(r"Did you mean .*\?", str(error))
        remedy = f"remove it, or use a field of the configuration file. {hint[0] if hint else ''}".strip()
        raise fe.errors.ConfigError(unknown, given[unknown], remedy) from error
    except fe.errors.ConfigError:
        raise
    except Exception as error:  # whatever the code of the file raises
        raise _broken(argv, error) from error


def _broken(argv: list[str], error: Exception) -> fe.errors.ConfigError:
    """Says where a configuration file goes wrong."""
    places = _places(argv, error)
    line = error.lineno if isinstance(error, SyntaxError) else places[-1].lineno if places else None
    where = f"line {line}" if line else "its get_config()"
    return fe.errors.ConfigError("config", _file(argv) or "a file", f"mend {where}: {type(error).__name__}: {error}")


def _places(argv: list[str], error: Exception) -> list[traceback.FrameSummary]:
    """The lines of the configuration file that led to an error."""
    file = _file(argv).partition(":")[0]
    return [place for place in traceback.extract_tb(error.__traceback__) if file and place.filename.endswith(file)]


def _file(argv: list[str]) -> str:
    given = re.search(r"--?config[= ](\S+)", " ".join(argv))
    return given[1] if given else ""


def _fields() -> dict[str, Any]:
    try:
        return _CONFIG.value.to_dict()
    except OSError as error:  # the flag holds back what went wrong until somebody wants its value
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        raise fe.errors.ConfigError(
            "config", path, "name a configuration file that can be read, experiments/configs/m3t.py for one"
        ) from error
    except AttributeError as error:
        raise fe.errors.ConfigError("config", _CONFIG.value, "let get_config() of the configuration file return a ConfigDict") from error
