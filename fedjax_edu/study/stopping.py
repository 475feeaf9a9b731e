"""Ending a run from outside: a signal asks for it, the run saves what it has and leaves with a code that says which signal it was."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

from fedjax_edu.study.console import Printer
from fedjax_edu.study.processes import most_of_all

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stopped(SystemExit):
    """A run has saved its state because a signal asked it to end.

    Where nobody catches it the process ends with `code`: 130 for Ctrl-C, 143 for SIGTERM, 138 for SIGUSR1, by which clusters announce that
    they will start a job again.

    Args:
        signum: the signal.
        done: the last round that is saved.
    """

    def __init__(self, signum: int, done: int):
        super().__init__(128 + signum)
        self.signal, self.done = signal.Signals(signum), done

    def __str__(self) -> str:
        return f"{self.signal.name} after round {self.done}, which is saved; the same call goes on from there"


def leave(signum: int, done: int, console: Printer) -> NoReturn:
    """Says that a run ends because of a signal, and where it will go on; then ends it.

    Raises:
        Stopped: always.
    """
    stopped = Stopped(signum, done)
    console.print(str(stopped), highlight=False)
    raise stopped


class Requests:
    """Whether somebody has asked a run to end.

    Attributes:
        here: the signal that this process was sent; 0 for none.
    """

    def __init__(self) -> None:
        self.here = 0

    @property
    def signal(self) -> int:
        """The signal that any process was sent, for they end together; 0 for none. All processes ask at the same point."""
        return most_of_all(self.here)


@contextlib.contextmanager
def stoppable(console: Printer) -> Iterator[Requests]:
    """Turns the first of Ctrl-C, SIGTERM and SIGUSR1 into a request; a second one does what it did before.

    In a thread other than the main one signals stay as they are.

    Args:
        console: which says that the request was heard.
    """
    requests = Requests()
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return

    def stop(signum: int, frame: Any) -> None:
        requests.here = signum
        restore()
        console.print(f"{signal.Signals(signum).name}: ending after the running rounds, or baseline; once more ends at once")

    def restore() -> None:
        for signum, handler in before.items():
            signal.signal(signum, handler)

    before = {signum: signal.signal(signum, stop) for signum in SIGNALS}
    try:
        yield requests
    finally:
        restore()
