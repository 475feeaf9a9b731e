"""Real school data by name: prepared on first use, then opened in a moment."""

import contextlib
import importlib
import io
import os
import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from fedjax_edu.core.errors import ArgumentError, require
from fedjax_edu.data.population import Population
from fedjax_edu.data.studies import K12, join_studies

JOINED = "k12"
_BUILDERS = {  # data set and module -> class
    "bdf": "Bdf",
    "chem97": "Chem97",
    "egsingle": "Egsingle",
    "exam": "Exam",
    "gcsemv": "Gcsemv",
    "hsb82": "Hsb82",
    "insteval": "Insteval",
    "scotssec": "Scotssec",
    "star": "Star",
    "ucla_f18": "UclaF18",
}


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Population:
    """A real data set as a population of raw rows, one client a school (a lecturer in ``"insteval"``, a subject in ``"ucla_f18"``).

    * ``"bdf"``: 2,287 pupils in 131 Dutch primary schools; leaves ``langPOST`` and ``aritPOST`` are scores, ``langPRET`` and
      ``aritPRET`` those before. Attributes ``denomina`` and ``schoolSES``.
    * ``"chem97"``: A-level chemistry in Britain, 31,022 pupils in 2,410 schools; leaf ``score``. Attribute ``lea``, the authority.
    * ``"egsingle"``: 7,230 pupil-years of 1,721 pupils in 60 primary schools of the United States; leaf ``math`` is a score, ``retained``
      whether a grade is repeated. Attributes ``size``, ``lowinc`` and ``mobility``.
    * ``"exam"``: 4,059 pupils in 65 schools of inner London; leaf ``normexam`` is the examination score, ``standLRT`` the one before.
      Attributes ``schgend``, ``schavg``, ``vr`` and ``type``.
    * ``"gcsemv"``: GCSE science, 1,905 pupils in 73 schools in England; leaves ``written`` and ``course`` are scores, NaN where missing.
    * ``"hsb82"``: High School and Beyond, 7,185 pupils in 160 schools; leaf ``mAch`` is mathematics achievement. Attributes ``sector``
      and ``meanses``.
    * ``"insteval"``: 73,421 ratings of 1,128 lecturers by 2,972 students of ETH Zurich; leaf ``y`` is the rating, ``s`` the student.
      Attribute ``dept``.
    * ``"scotssec"``: 3,435 pupils from 148 primary and 19 secondary schools in Scotland; leaf ``attain`` is a score at age 16, ``second``
      the secondary school. The client is the primary school.
    * ``"k12"``: the eight studies of pupils in schools among these, 3,127 schools and 92,167 examples, with the rows, inputs and tasks of
      the school protocol; see :func:`load_studies`.
    * ``"star"``: Project STAR, 26,796 pupil-years of 11,598 pupils in 80 schools, kindergarten to grade 3; leaves ``read`` and ``math``
      are scores, NaN where missing. The client is the first school of the pupil. Attribute ``schtype``.
    * ``"ucla_f18"``: 3,950 courses of UCLA in 173 subjects; leaf ``course`` is the position of the title in ``population.texts["course"]``,
      ``course_num`` and ``course_numeric`` say the level. Attribute ``subject``, a position in ``population.texts["subject"]``.

    The docstrings of ``fedjax_edu.data.builders`` describe each leaf with its unit; :func:`vocabulary` names the levels of the leaves that
    hold codes. The first call prepares the data set, with a progress bar when standard error is a terminal; a folder that was left
    incomplete or damaged is prepared again.

    Args:
        name: one of the above.
        data_dir: where prepared data sets lie; None means the environment variable ``FEDJAX_EDU_DATA``, else ``fedjax_edu`` in
            ``XDG_CACHE_HOME`` or ``~/.cache``.

    Returns:
        The population; ids are the numbers of the schools, lecturers or subjects.

    Raises:
        ArgumentError: when the name is unknown, or the folder cannot be written to.
        MissingDependencyError: when a package is not installed; its message is the pip command.
    """
    if name == JOINED:
        return load_studies(K12, data_dir)
    builder_class = _builder_class(name)
    folder = data_folder(data_dir)
    with contextlib.suppress(Exception):  # absent or damaged; a fault that lies elsewhere is raised by the second reading
        return _opened(builder_class, folder)
    _prepare(builder_class, folder)
    return _opened(builder_class, folder)


def load_studies(names: Iterable[str], data_dir: str | os.PathLike[str] | None = None) -> Population:
    """Studies under the school protocol as one population of schools.

    Args:
        names: any of ``hsb``, ``star``, ``egsingle``, ``bdf``, ``exam``, ``scots``, ``chem`` and ``gcse``, which together are
            ``load("k12")``, and ``courses``: the 131 subjects of ``load("ucla_f18")`` with five courses or more, where titles are texts and
            the task is to tell upper-division courses, those from number 100 on, from lower-division ones.
        data_dir: as for :func:`load`.

    Returns:
        A population with the layout of :class:`fedjax_edu.data.Schema` and raw scores. Each school has the inputs and tasks of its study;
        all others are absent. The attribute ``study`` is its position in ``schema.studies``; the leaf ``unit`` tells pupils apart, and
        ``classroom`` numbers classrooms within a school.

    Raises:
        ArgumentError: no study, or an unknown one.
        MissingDependencyError: when a package is not installed.
    """
    return join_studies(names, partial(load, data_dir=data_dir), vocabulary)


def vocabulary(name: str) -> dict[str, tuple[str, ...]]:
    """The levels of the categorical leaves of a data set: code *k* of a leaf means level *k*, -1 means missing.

    Args:
        name: as in :func:`load`.

    >>> vocabulary("hsb82")["sector"]
    ('Public', 'Catholic')
    """
    return {column.name: column.levels for column in _builder_class(name).COLUMNS if column.levels}


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where prepared data sets lie: the argument, or ``FEDJAX_EDU_DATA``, or ``fedjax_edu`` in the user's cache.

    Args:
        data_dir: a folder, ``~`` allowed.

    >>> data_folder("/data").as_posix()
    '/data'
    """
    if data_dir is not None:
        return Path(data_dir).expanduser()
    if chosen := os.environ.get("FEDJAX_EDU_DATA"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedjax_edu"


def _builder_class(name: str) -> Any:
    if not isinstance(name, str) or name not in _BUILDERS:
        raise ArgumentError("name", name, f"use one of {sorted([*_BUILDERS, JOINED])}")
    require(f"the data set {name!r}", "data", "tensorflow_datasets")
    return getattr(importlib.import_module(f"fedjax_edu.data.builders.{name}"), _BUILDERS[name])


def _opened(builder_class: Any, folder: Path) -> Population:
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    return builder_class(data_dir=folder, file_format="array_record").population()


def _prepare(builder_class: Any, folder: Path) -> None:
    """Writes the data set beside its final place and moves it there as a whole, so that no reader ever sees half of it."""
    import tensorflow_datasets as tfds

    try:
        folder.mkdir(parents=True, exist_ok=True)
        workplace = tempfile.TemporaryDirectory(dir=folder, prefix="preparing-")
    except OSError as error:
        raise ArgumentError("data_dir", str(folder), f"name a folder you may write to, here or in FEDJAX_EDU_DATA ({error})") from error
    with workplace as place, _quiet_unless_terminal():
        builder = builder_class(data_dir=place, file_format="array_record")
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
        final = folder / Path(builder.data_dir).relative_to(place)
        if final.exists():
            final.rename(Path(place) / "damaged")
        final.parent.mkdir(exist_ok=True)
        try:
            Path(builder.data_dir).rename(final)
        except OSError:
            if not final.exists():  # otherwise another process has just put the same data there
                raise


@contextlib.contextmanager
def _quiet_unless_terminal() -> Any:
    """Sends what TFDS prints to standard error with its progress bars, and all of it nowhere when that is not a terminal."""
    stream = sys.stderr if sys.stderr.isatty() else io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        yield
