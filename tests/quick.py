"""Quick compilation, for tests that compile large programs and run each for a second.

Programs of other shapes then round otherwise, so tests that compare such programs bit for bit do without it.
"""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def quick_compilation() -> Iterator[None]:
    """Most of the compiler's work is left out."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
