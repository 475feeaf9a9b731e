"""What a run tells people: one process of all speaks, and what it says is also kept in a file."""

from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from fedjax_edu.study.processes import is_first

LOG = "log.txt"  # of a run folder
LOG_WIDTH = 140


class Printer(Protocol):
    """What prints: a ``rich.console.Console``, or :class:`Logged`."""

    def print(self, *objects: Any, **style: Any) -> None:
        """Prints text and tables, in the style that Rich's consoles know."""
        ...


class Logged:
    """Prints, and adds what it prints to a file, once the file's folder is known to be the run's own.

    Args:
        printer: that people see.
        path: of the file.
    """

    def __init__(self, printer: Printer, path: Path):
        self._printer, self._path, self._heard = printer, path, True
        self._held: list[tuple[tuple[Any, ...], dict[str, Any]]] | None = []

    def begin(self) -> None:
        """Writes what was printed so far, and from now on at once."""
        held, self._held = self._held or [], None
        for objects, style in held:
            self._write(objects, style)

    def print(self, *objects: Any, **style: Any) -> None:
        """As :class:`Printer` says; a run goes on when nobody hears it any more, its terminal or pipe gone."""
        if self._heard:
            try:
                self._printer.print(*objects, **style)
            except (OSError, SystemExit):  # Rich exits on a broken pipe
                self._heard = False
        if self._held is None:
            self._write(objects, style)
        else:
            self._held.append((objects, style))

    def _write(self, objects: tuple[Any, ...], style: dict[str, Any]) -> None:
        if is_first():
            with self._path.open("a") as file:
                Console(file=file, width=LOG_WIDTH).print(*objects, **style)


def standard_output() -> Console:
    """A console that only the first process is heard on."""
    return Console(quiet=not is_first())
