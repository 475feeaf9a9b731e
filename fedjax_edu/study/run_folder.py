"""The folder of one run: files that are replaced as a whole or grow by lines, and that one process writes."""

import contextlib
import dataclasses
import fcntl
import json
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from fedjax_edu.core.errors import ArgumentError, CheckpointError
from fedjax_edu.study.processes import is_first

LOCK = ".lock"


class RunFolder:
    """Creates a folder and writes to it; of several processes the first alone does.

    Args:
        path: where.

    Raises:
        ArgumentError: it cannot be created or written.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path).expanduser().absolute()  # a program may change its directory
        self._lock: TextIO | None = None
        self._owner = 0  # the thread that has locked it
        if not is_first():
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path).close()
        except OSError as error:
            raise ArgumentError("workdir", str(path), f"name a folder you may write to ({error})") from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes and threads from running in the folder, until it is left or the process ends, however it ends.

        Raises:
            ArgumentError: another one is running there.
        """
        if not is_first() or self._owner == threading.get_ident():
            yield
            return
        with self._opened() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ArgumentError("workdir", str(self.path), "name another folder: a process is running in this one") from error
            self._lock, self._owner = lock, threading.get_ident()
            try:
                yield
            finally:
                self._lock, self._owner = None, 0

    def _opened(self) -> TextIO:
        try:
            self.path.mkdir(parents=True, exist_ok=True)  # somebody may have removed it
            return (self.path / LOCK).open("a")
        except OSError as error:
            raise ArgumentError("workdir", str(self.path), f"name a folder you may write to ({error})") from error

    def remove(self, *names: str) -> None:
        """Removes files and folders; those that are not there do no harm, and what a link leads to is emptied.

        Raises:
            CheckpointError: one cannot be removed.
        """
        for path in [self.path / name for name in names] if is_first() else ():
            with writing(path):
                _remove(path)

    def read_json(self, name: str) -> Any:
        """What :meth:`write_json` wrote; None where it did not.

        Raises:
            CheckpointError: something else is there.
        """
        path = self.path / name
        try:
            return json.loads(path.read_text()) if path.exists() else None
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(name, str(path), f"put it back as it was, or remove the folder ({error})") from error

    def write_json(self, name: str, value: Any) -> None:
        """Writes one JSON document, replacing the file as a whole."""
        self.write_text(name, json.dumps(to_json(value), indent=2, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Writes a file, replacing it as a whole; errors of :meth:`append`."""
        self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Writes a file, replacing it as a whole, and the folder that it is in; errors of :meth:`append`."""
        if is_first():
            self.check_ours()
            target = self.path / name
            unfinished = target.with_suffix(".unfinished")
            with writing(target):
                target.parent.mkdir(exist_ok=True)
                unfinished.write_bytes(content)
                unfinished.replace(target)

    def append(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Adds one JSON object a line.

        Raises:
            CheckpointError: it cannot be written, or the folder has been removed since it was locked, and may be another run's by now.
        """
        self.append_text(name, as_lines(lines))

    def append_text(self, name: str, text: str) -> None:
        """Adds text to a file; errors of :meth:`append`."""
        if is_first():
            self.check_ours()
            with writing(self.path / name), (self.path / name).open("a") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())  # what a checkpoint counts on must outlive the machine

    def check_ours(self) -> None:
        """Refuses to go on in a folder that was removed, and may have been made again by others, since it was locked.

        Raises:
            CheckpointError: it was.
        """
        lock = self.path / LOCK
        if self._lock is None or (lock.exists() and os.path.samestat(os.fstat(self._lock.fileno()), lock.stat())):
            return
        raise CheckpointError("workdir", str(self.path), "start the run again: the folder was removed while it was going on")


def _remove(path: Path) -> None:
    if path.is_symlink() and path.is_dir():
        for inside in path.iterdir():
            _remove(inside)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong while a file or folder is written into one error.

    Raises:
        CheckpointError: it cannot be written.
    """
    try:
        yield
    except Exception as error:  # of the file system, of Orbax or of its writers
        remedy = f"make room, or name a folder you may write to; what was complete is as it was ({words(error)})"
        raise CheckpointError("workdir", str(path), remedy) from error


def as_lines(lines: Iterable[Mapping[str, Any]]) -> str:
    r"""One JSON object a line.

    >>> as_lines([{"round": 1}, {"round": 2}])
    '{"round": 1}\n{"round": 2}\n'
    """
    return "".join(json.dumps(to_json(line), allow_nan=False) + "\n" for line in lines)


def words(error: Exception) -> str:
    """An error in one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def to_json(value: Any) -> Any:
    """Plain JSON values: arrays as lists, dataclasses as objects, numbers that are not finite as null.

    >>> import numpy as np
    >>> to_json({"loss": np.float32(0.5), "auc": float("nan"), "sizes": np.arange(2)})
    {'loss': 0.5, 'auc': None, 'sizes': [0, 1]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):  # arrays and their scalars
        return to_json(value.tolist())
    if isinstance(value, (list, tuple)):
        return [to_json(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
