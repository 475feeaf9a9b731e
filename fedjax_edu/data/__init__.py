"""Data: populations of clients."""

from fedjax_edu.data.population import Population
from fedjax_edu.data.summary import PopulationSummary

__all__ = ["Population", "PopulationSummary"]
