"""How every program starts: its flags, every core, little noise, and mistakes as one line instead of a traceback."""

import signal
import sys
from collections.abc import Callable
from logging import LogRecord, getLogger
from typing import Any

import jax
from absl import app, flags, logging

import fedjax_edu as fe


def parse_flags(argv: list[str]) -> list[str]:
    """Reads the flags of a command line.

    Raises:
        ConfigError: an unknown one, or a value that it does not take.
    """
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        what = said[0] if len(said) == 1 else f"{said[0]} {said[-1]}"  # a traceback lies between
        raise fe.errors.ConfigError("flags", " ".join(argv[1:]), f"mend them (--help lists all): {what}") from error


def start(work: Callable[[], object], parse: Callable[[list[str]], list[str]] = parse_flags) -> None:
    """Reads the flags and calls `work`.

    Args:
        work: the program.
        parse: reads the flags of a command line.
    """

    def main(argv: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)
        for name in ("absl", "asyncio"):
            getLogger(name).addFilter(_not_of_orbax)
        sys.unraisablehook = _but_closed_loops
        work()

    try:
        app.run(main, flags_parser=parse)
    except fe.study.Stopped:  # its exit code passes, and nothing is left to interrupt
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise
    except fe.errors.FedjaxEduError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _not_of_orbax(record: LogRecord) -> bool:
    """Its threads and tasks log with a traceback what it then raises, and we report."""
    return "orbax" not in record.pathname + record.getMessage()


def _but_closed_loops(report: Any) -> None:
    """TensorStore's threads find the loop of a failed save closed."""
    if str(report.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(report)


def prepare_jax() -> None:
    """Uses every core, and keeps what it compiles.

    A second run of the same programs starts without compiling them; ``JAX_COMPILATION_CACHE_DIR`` names another folder.
    """
    fe.configure()
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(fe.data.data_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
