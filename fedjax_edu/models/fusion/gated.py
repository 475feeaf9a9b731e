"""Routing by what a row is: experts for pairs of modality and task, for pairs of task and modality, and for domains."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.models.attention import attend, projections
from fedjax_edu.models.fusion.fused import Fused
from fedjax_edu.models.linear import Linear
from fedjax_edu.models.tokens import Tokens
from fedjax_edu.models.transformer import FeedForward

SHARED = "shared"


class DomainExperts(nnx.Module):
    r"""x + σ(x U_d + u_d) V_d + v_d with matrices of the domain d; V and v start at zero.

    Args:
        domains: how many.
        width: of x.
        hidden: of the layer between.
        rngs: source of the starting values.
    """

    def __init__(self, domains: int, width: int, hidden: int, *, rngs: nnx.Rngs):
        self.into = nnx.Param(jax.random.normal(rngs.params(), (domains, width, hidden)) / width**0.5)
        self.into_bias = nnx.Param(jnp.zeros((domains, hidden)))
        self.out = nnx.Param(jnp.zeros((domains, hidden, width)))
        self.out_bias = nnx.Param(jnp.zeros((domains, width)))

    def __call__(self, values: jax.Array, domain: jax.Array) -> jax.Array:
        """[B, T, width] and an int scalar -> [B, T, width]."""
        into, into_bias, out, out_bias = (leaf[...][domain] for leaf in (self.into, self.into_bias, self.out, self.out_bias))
        hidden = jax.nn.gelu(values @ into + into_bias.reshape(1, 1, -1), approximate=False)
        return values + hidden @ out + out_bias.reshape(1, 1, -1)


class GatedAttention(nnx.Module):
    """The attention of a transformer layer, whose queries and values pass through a domain's expert.

    Args:
        width: of tokens.
        heads: of the attention.
        hidden: width of domain experts.
        domains: how many.
        rngs: source of the starting values.

    Raises:
        ArgumentError: the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, hidden: int, domains: int, *, rngs: nnx.Rngs):
        self.query, self.key, self.value, self.out = projections(width, heads, rngs)
        self.query_domains, self.value_domains = (DomainExperts(domains, width, hidden, rngs=rngs) for _ in range(2))
        self.before, self.after = (nnx.LayerNorm(width, rngs=rngs) for _ in range(2))
        self.heads = heads

    def __call__(self, tokens: Tokens, expert: FeedForward, domain: jax.Array) -> Tokens:
        """Tokens -> tokens, with an expert for the feed-forward network."""
        read = self.before(tokens.values)
        query, value = self.query_domains(self.query(read), domain), self.value_domains(self.value(read), domain)
        values = tokens.values + self.out(attend(query, self.key(read), value, tokens.mask, self.heads))
        return Tokens.masked(values + expert(self.after(values)), tokens.mask)


class GatedFusion(nnx.Module):
    r"""Four paths of the tokens x of each modality m to each task t, through parts that are shared (s), of m, of t, or of both.

    A path goes through a transformer :math:`T` of modalities with experts :math:`E_{m,t}` for feed-forward networks, then through a
    transformer :math:`U` of tasks with experts :math:`F_{t,m}`; W is a shared projection:

    .. math::
        U_s[F_{s,s}] \, T_s[E_{s,s}] \, W x, \quad U_t[F_{t,s}] \, T_m[E_{s,t}] \, W x, \quad
        U_t[F_{t,m}] \, T_m[E_{m,t}] \, x, \quad U_s[F_{s,m}] \, T_m[E_{m,s}] \, x

    The representation for t is the mean over paths, and over the modalities that a row has, of the mean of their tokens. Where tokens go
    is not learned: a client without a modality or a task neither reads nor trains its parts.

    Args:
        modalities: names.
        tasks: names.
        width: of tokens.
        layers: of each transformer.
        heads: of the attention.
        hidden: width of feed-forward networks and of the experts of domains.
        domains: how many.
        rngs: source of the starting values.

    Raises:
        ArgumentError: a modality or task that is called "shared".

    Reference: Lee, Fang, Han, Hosseinalipour, Brinton (2025), "TAP: two-stage adaptive personalization of multi-task and multi-modal
    foundation models in federated learning": E are its MoTE, F its MoME, the experts of domains its MoDE. There attention and experts are
    frozen and carry low-rank matrices; here they are trained, and such matrices can be added.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        tasks: Sequence[str],
        width: int,
        *,
        layers: int,
        heads: int,
        hidden: int,
        domains: int = 1,
        rngs: nnx.Rngs,
    ):
        if SHARED in (*modalities, *tasks):
            raise ArgumentError("modalities, tasks", SHARED, "use another name: this one is of what all share")

        def attention() -> nnx.List[GatedAttention]:
            return nnx.List([GatedAttention(width, heads, hidden, domains, rngs=rngs) for _ in range(layers)])

        def experts(names: Sequence[str]) -> nnx.Dict[nnx.List[FeedForward]]:
            return nnx.Dict({name: nnx.List([FeedForward(width, hidden, rngs=rngs) for _ in range(layers)]) for name in names})

        all_modalities, all_tasks = (*modalities, SHARED), (*tasks, SHARED)
        self.project = Linear(width, width, rngs=rngs)
        self.modalities = nnx.Dict({modality: attention() for modality in all_modalities})
        self.tasks = nnx.Dict({task: attention() for task in all_tasks})
        self.task_experts = nnx.Dict({modality: experts(all_tasks) for modality in all_modalities})
        self.modality_experts = nnx.Dict({task: experts(all_modalities) for task in all_tasks})

    def __call__(self, parts: Mapping[str, Tokens], tasks: Sequence[str], domain: jax.Array | None = None) -> Fused:
        """One representation [B, D] for each task; there are no learned routers to report of.

        Args:
            parts: modality -> tokens.
            tasks: names.
            domain: int scalar, of all rows; None: 0.
        """
        domain = jnp.zeros((), jnp.int32) if domain is None else domain
        present = jnp.stack([tokens.mask.any(axis=1) for tokens in parts.values()], axis=1)
        count = jnp.maximum(present.sum(axis=1), 1).astype(next(iter(parts.values())).values.dtype)
        representations = {}
        for task in tasks:
            means = [self._mean_of_paths(tokens, modality, task, domain) for modality, tokens in parts.items()]
            representations[task] = sum(means) / count[:, None]
        return Fused(representations, {})

    def _mean_of_paths(self, tokens: Tokens, modality: str, task: str, domain: jax.Array) -> jax.Array:
        """[B, D]; zeros for rows without the modality."""
        common = Tokens.masked(self.project(tokens.values), tokens.mask)
        paths = [  # tokens, the first transformer and its expert, the second and its expert
            (common, SHARED, (SHARED, SHARED), SHARED, (SHARED, SHARED)),
            (common, modality, (SHARED, task), task, (task, SHARED)),
            (tokens, modality, (modality, task), task, (task, modality)),
            (tokens, modality, (modality, SHARED), SHARED, (SHARED, modality)),
        ]
        means = []
        for start, first, (row, column), then, (other_row, other_column) in paths:
            halfway = _through(start, self.modalities[first], self.task_experts[row][column], domain)
            means.append(_through(halfway, self.tasks[then], self.modality_experts[other_row][other_column], domain).mean())
        return jnp.mean(jnp.stack(means), axis=0)


def _through(tokens: Tokens, attention: Sequence[GatedAttention], experts: Sequence[FeedForward], domain: jax.Array) -> Tokens:
    for layer, expert in zip(attention, experts, strict=True):
        tokens = layer(tokens, expert, domain)
    return tokens
