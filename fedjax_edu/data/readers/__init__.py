"""Readers of public data sets that a user brings, from a local folder in their public layout.

Nothing is downloaded and nothing ships: each data set has its own terms. A reader checks what it reads, and an error names the file, the
line or column, and what was expected. A population has the leaves that :class:`fedjax_edu.data.Schema` describes, and ``texts`` names
what codes mean: ``texts[schema.client][id]`` is the client with an id, ``texts[schema.unit]`` the students that ``unit`` counts. Logs of
answers have further leaves, described in :mod:`fedjax_edu.data.readers.interactions`.
"""

from fedjax_edu.data.readers.asap import asap
from fedjax_edu.data.readers.assistments import assistments2009, assistments2012, assistments2015, assistments2017
from fedjax_edu.data.readers.ednet import ednet_kt1
from fedjax_edu.data.readers.kdd_cup import kdd_cup
from fedjax_edu.data.readers.oulad import oulad
from fedjax_edu.data.readers.pisa import pisa
from fedjax_edu.data.readers.plausible import PlausibleEstimate, combine_plausible_values
from fedjax_edu.data.readers.slp import slp

__all__ = [
    "PlausibleEstimate",
    "asap",
    "assistments2009",
    "assistments2012",
    "assistments2015",
    "assistments2017",
    "combine_plausible_values",
    "ednet_kt1",
    "kdd_cup",
    "oulad",
    "pisa",
    "slp",
]
