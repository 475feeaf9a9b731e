"""What a run tells people: one process of all speaks, and what it says is also kept in a file."""

import io
from typing import Any, Protocol

from rich.console import Console

from fedjax_edu.study.processes import is_first
from fedjax_edu.study.run_folder import RunFolder

LOG = "log.txt"  # of a run folder
LOG_WIDTH = 140


class Printer(Protocol):
    """What prints: a ``rich.console.Console``, or :class:`Logged`."""

    def print(self, *objects: Any, **style: Any) -> None:
        """Prints text and tables, in the style that Rich's consoles know."""
        ...


class Logged:
    """Prints, and adds what it prints to the log of a run folder, once the folder is known to be the run's own.

    Args:
        printer: that people see.
        folder: of the run.
    """

    def __init__(self, printer: Printer, folder: RunFolder):
        self._printer, self._folder, self._heard = printer, folder, True
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
        text = io.StringIO()
        Console(file=text, width=LOG_WIDTH).print(*objects, **style)
        self._folder.append_text(LOG, text.getvalue())


def standard_output() -> Console:
    """A console that only the first process is heard on."""
    return Console(quiet=not is_first())
