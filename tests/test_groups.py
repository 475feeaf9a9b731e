"""Tests that share compiled programs run in one process; where they did not, nothing but time would tell."""

import pytest


def test_a_worker_knows_the_group_of_a_test(request):
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("tests are not distributed by group")
    assert "@test_groups.py" in request.node.nodeid
