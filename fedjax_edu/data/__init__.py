"""Data: populations of clients, and partitions of central data sets into clients."""

from fedjax_edu.data import partition
from fedjax_edu.data.population import Population
from fedjax_edu.data.summary import PopulationSummary

__all__ = ["Population", "PopulationSummary", "partition"]
