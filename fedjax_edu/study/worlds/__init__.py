"""Tables about the synthetic world, whose best predictions are known."""
