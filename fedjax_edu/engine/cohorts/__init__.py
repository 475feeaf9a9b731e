"""Who takes part in a round: samplers that run inside the compiled program."""

from fedjax_edu.engine.cohorts.availability import available, including
from fedjax_edu.engine.cohorts.memoryless import everyone, poisson, round_robin, uniform, weighted
from fedjax_edu.engine.cohorts.sampler import Cohort

__all__ = ["Cohort", "available", "everyone", "including", "poisson", "round_robin", "uniform", "weighted"]
