"""Data: populations of clients, partitions of central data sets into clients, real school data, and readers of data that users bring."""

from fedjax_edu.data import partition, readers
from fedjax_edu.data.attacks import flip_labels
from fedjax_edu.data.completing import complete_modalities
from fedjax_edu.data.loading import data_folder, load, load_studies, vocabulary
from fedjax_edu.data.losing import lose_modalities
from fedjax_edu.data.partition import PartitionStatistics
from fedjax_edu.data.population import Population
from fedjax_edu.data.schema import Feature, Schema, Task
from fedjax_edu.data.standardiser import Standardiser
from fedjax_edu.data.summary import PopulationSummary
from fedjax_edu.data.worlds import World, m3t_world

__all__ = [
    "Feature",
    "PartitionStatistics",
    "Population",
    "PopulationSummary",
    "Schema",
    "Standardiser",
    "Task",
    "World",
    "complete_modalities",
    "data_folder",
    "flip_labels",
    "load",
    "load_studies",
    "lose_modalities",
    "m3t_world",
    "partition",
    "readers",
    "vocabulary",
]
