"""Data: populations of clients, partitions of central data sets into clients, and real school data."""

from fedjax_edu.data import partition
from fedjax_edu.data.attacks import flip_labels
from fedjax_edu.data.loading import data_folder, load, vocabulary
from fedjax_edu.data.partition import PartitionStatistics
from fedjax_edu.data.population import Population
from fedjax_edu.data.summary import PopulationSummary

__all__ = ["PartitionStatistics", "Population", "PopulationSummary", "data_folder", "flip_labels", "load", "partition", "vocabulary"]
