r"""Multilevel (mixed) models of pupils in schools, fitted exactly from what each school sums over its own pupils.

.. math:: y_j = X_j \beta + Z_j u_j + e_j, \qquad u_j \sim N(0, T), \qquad e_j \sim N(0, \sigma^2 I)

A school sends the products of its columns, :math:`W_j^\top W_j`, once; pupils' rows stay with it. Whoever holds the products of all
schools fits any model of those columns, and the result is that of one who holds the rows. In one formula, with
:math:`D = T / \sigma^2`, the likelihood reads of school j

.. math::
    \log|I + Z_j^\top Z_j D| \quad\text{and}\quad
    [X_j\ y_j]^\top [X_j\ y_j] - [X_j\ y_j]^\top Z_j\, D\, (I + Z_j^\top Z_j D)^{-1} Z_j^\top [X_j\ y_j],

both summed over schools. :math:`[X_j\ y_j]^\top [X_j\ y_j]` is a sum whatever D is: secure aggregation could add it up once. The other
terms need the :math:`Z_j^\top Z_j` and :math:`Z_j^\top [X_j\ y_j]` of each school and D together, so a server that may see sums only has
to ask for them once for every D that it tries. Here it asks once, and sees the products of each school.
"""

from fedjax_edu.study.multilevel.baseline import RandomIntercept, random_intercept
from fedjax_edu.study.multilevel.effects import SchoolEffects, predict, school_effects
from fedjax_edu.study.multilevel.logistic import fit_logistic
from fedjax_edu.study.multilevel.model import MixedModel, fit
from fedjax_edu.study.multilevel.school_statistics import SchoolStatistics, gather, independent, statistics

__all__ = [
    "MixedModel",
    "RandomIntercept",
    "SchoolEffects",
    "SchoolStatistics",
    "fit",
    "fit_logistic",
    "gather",
    "independent",
    "predict",
    "random_intercept",
    "school_effects",
    "statistics",
]
