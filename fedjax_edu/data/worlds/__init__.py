"""A synthetic world of institutions whose best possible predictions are known."""

from fedjax_edu.data.worlds.world import World, m3t_world

__all__ = ["World", "m3t_world"]
