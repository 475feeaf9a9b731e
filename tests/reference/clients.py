"""Clients as algorithms and links see them, for tests that call these alone."""

import jax
import jax.numpy as jnp

from fedjax_edu.core.algorithm import ClientInfo
from fedjax_edu.core.link import Context
from fedjax_edu.core.modules import Modules


def client_info(modules: int, *, id_: int = 3, examples: int = 1, steps: int = 1) -> ClientInfo:
    """A client that holds all modules."""
    return ClientInfo(
        id=jnp.uint32(id_),
        examples=jnp.int32(examples),
        steps=jnp.full(1, steps, jnp.int32),
        share=jnp.ones(modules),
        attributes={},
        position=jnp.int32(0),
        staleness=jnp.int32(0),
    )


def context(modules: Modules, *, seed: int = 0, **client: int) -> Context:
    """What a link may know of one client."""
    return Context(jax.random.key(seed), client_info(len(modules.names), **client), modules)
