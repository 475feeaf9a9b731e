"""Who takes part in a round: samplers that run inside the compiled program."""

from fedjax_edu.engine.cohorts.asynchronous import asynchronous, durations
from fedjax_edu.engine.cohorts.availability import available, including
from fedjax_edu.engine.cohorts.memoryless import everyone, poisson, round_robin, uniform, weighted
from fedjax_edu.engine.cohorts.oort import oort
from fedjax_edu.engine.cohorts.power_of_choice import power_of_choice
from fedjax_edu.engine.cohorts.sampler import Cohort

__all__ = [
    "Cohort",
    "asynchronous",
    "available",
    "durations",
    "everyone",
    "including",
    "oort",
    "poisson",
    "power_of_choice",
    "round_robin",
    "uniform",
    "weighted",
]
