"""Ranks items: the language model's last state, what the context mentions, and what co-occurs with it.

`Recommender` holds the prompt encoder and the scoring heads. A head that a preset does not use has no parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph
import numpy as np
from flax import struct

from ecr_jax.models.prompt import EntityTable, Fused, Linear, Prefix, PromptConfig, PromptEncoder, Task, masked_softmax

RECENCY_SLOTS = 32
"""How far back the order of mentions is told apart."""

LanguageModel = Callable[[Mapping[str, jax.Array], Prefix], jax.Array]
"""A frozen language model: (batch, prefix) -> the state [B, D] of each row's last context token, after its final norm.
A flax module is made before, outside of the callable, which only calls its `apply`."""

FIDELITY: dict[str, dict[str, Any]] = {
    "code": dict(query="state", copy="none", walk=False, mentions=False, prior=False, liking=False),
    "paper": dict(query="state", copy="none", walk=False, mentions=False, prior=False, liking=False),
    "improved": dict(query="pooled", copy="mass", walk=True, mentions=True, prior=True, liking=True),
}
"""What each preset says of the fields of `HeadConfig`."""


@dataclass(frozen=True)
class HeadConfig:
    """How items are scored; `HeadConfig.fidelity` fills in a preset.

    Attributes:
      query: "state": the language model's last state times the entity table, as published; "pooled": its projection
        plus attention pools of the fused entities and of the text states, scaled by D ** -0.5, so that a small frozen
        language model is no bottleneck.
      copy: "none"; "published": the released code's optional head (co-occurrence times a scalar of each slot's
        emotion, times 0.5); "mass": a learned multiple of log(1 + c m) of the co-occurrence mass m of an item, from
        the batch's `cooccurring_items` and `cooccurrence_weights` [B, E, C] where it has them (films said together, longer rows), else
        from its neighbours.
      walk: a learned multiple of asinh of what reaches an item in two steps over the graph: from a mention to its facts
        (a film's director, genre, ...; anything else is its own fact), from there to the items that share them. A
        mention's weight is learned from what was felt and said about it, and may be negative; so is a relation's.
      mentions: a learned score for what the context already mentions: whether a film is named again is a choice of its
        own. It depends on who named it, how long ago, how often (the batch's `mentions` [B, E, 3]), and on its state.
      prior: a learned multiple of a given prior of the items (log popularity), less what the batch's `own_recommendations` and
        `own_log_shift` [B, P] say of a training dialogue's own share in it.
      liking: whether the seeker will like what is recommended next, a logit linear in what was said, in all and last
        (mean text states), and in what was felt. It says nothing of single films, so it moves no rank: it tells moments
        apart. What is trained for it (`losses.answer`) moves nothing else.
    """

    query: Literal["state", "pooled"] = "pooled"
    copy: Literal["none", "published", "mass"] = "mass"
    walk: bool = True
    mentions: bool = True
    prior: bool = True
    liking: bool = True

    @classmethod
    def fidelity(cls, preset: str = "improved", **fields: Any) -> HeadConfig:
        """A config of the preset `paper`, `code` or `improved`; `fields` win.

        Raises:
          ValueError: there is no such preset.
        """
        if preset not in FIDELITY:
            raise ValueError(f"fidelity is {preset!r}; choose one of {', '.join(FIDELITY)}")
        return cls(**{**FIDELITY[preset], **fields})


@struct.dataclass
class Facts:
    """What joins items: the facts of each entity, as arrays that `Heads` walks over.

    Attributes:
      entities: int32 [N + 1, A] the facts, padded with N. An entity that is no item has one: itself.
      types: int32 [N + 1, A] the relation to each, `relations` for itself.
      weights: float32 [N + 1, A] how telling each is, 0 where padded.
      relations: number of relations R.
    """

    entities: jax.Array
    types: jax.Array
    weights: jax.Array
    relations: int = struct.field(pytree_node=False)


def facts_of(triples: np.ndarray, items: np.ndarray, entities: int, relations: int, most: int) -> Facts:
    """Collects the facts of items from triples in either direction.

    A fact that k triples touch weighs k ** -0.5, so that a shared director tells more than a shared language; items
    with more than `most` facts keep the rarest ones.

    Args:
      triples: int [E, 3] (head, relation, tail).
      items: int [I] entity ids.
      entities: N.
      relations: R.
      most: A.
    """
    degree = np.bincount(triples[:, [0, 2]].reshape(-1), minlength=entities)
    both = np.concatenate([triples, triples[:, ::-1]])
    both = np.unique(both[np.isin(both[:, 0], items) & (both[:, 0] != both[:, 2])], axis=0)
    order = np.lexsort((both[:, 2], degree[both[:, 2]], both[:, 0]))
    both = both[order]
    place = np.arange(len(both)) - np.searchsorted(both[:, 0], both[:, 0])
    both, place = both[place < most], place[place < most]
    ids = np.full((entities + 1, most), entities, np.int32)
    types, weights = np.full(ids.shape, relations, np.int32), np.zeros(ids.shape, np.float32)
    ids[:entities, 0], weights[:entities, 0] = np.arange(entities), 1.0
    ids[items, 0], weights[items, 0] = entities, 0.0
    ids[both[:, 0], place], types[both[:, 0], place] = both[:, 2], both[:, 1]
    weights[both[:, 0], place] = np.maximum(degree[both[:, 2]], 1) ** -0.5
    return Facts(jnp.asarray(ids), jnp.asarray(types), jnp.asarray(weights), relations)


def last_state(hidden: jax.Array, mask: jax.Array) -> jax.Array:
    """The state of each row's last real token: hidden [B, T, D], mask [B, T] right-padded -> [B, D]."""
    last = jnp.maximum(mask.astype(jnp.int32).sum(axis=1) - 1, 0)
    return jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]


def positions(targets: jax.Array, item_ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where entities stand among the candidates.

    Args:
      targets: int [...] entity ids.
      item_ids: int [I] candidates, rising.

    Returns:
      int [...] positions in `item_ids` (any where it is none of them), and bool [...], whether it is one.
    """
    found = jnp.minimum(jnp.searchsorted(item_ids, targets), item_ids.shape[0] - 1)
    return found, item_ids[found] == targets


def mean(rows: jax.Array, where: jax.Array) -> jax.Array:
    """The mean of the rows [B, S, D] that count, bool [B, S]: [B, D], zero where none does."""
    weights = where / jnp.maximum(where.sum(axis=1, keepdims=True), 1)
    return jnp.einsum("bs,bsd->bd", weights.astype(rows.dtype), rows)


def scatter(ids: jax.Array, values: jax.Array, entities: int) -> jax.Array:
    """Adds up values by entity: ids int [B, ...], values [B, ...] -> [B, entities]; ids beyond are dropped."""
    rows = ids.shape[0]
    ids, values = ids.reshape(rows, -1), values.reshape(rows, -1)
    return jnp.zeros((rows, entities), values.dtype).at[jnp.arange(rows)[:, None], ids].add(values, mode="drop")


def recency(mask: jax.Array) -> jax.Array:
    """How many real slots follow each slot: bool [B, E] -> int [B, E], 0 for the last mention, at most `RECENCY_SLOTS` - 1."""
    count = jnp.cumsum(mask.astype(jnp.int32), axis=1)
    return jnp.clip(count[:, -1:] - count, 0, RECENCY_SLOTS - 1)


AGO, TIMES = 6, 3
"""From how many turns, and how many mentions, on they are no longer told apart."""


def mention_kind(mentions: jax.Array) -> jax.Array:
    """Numbers what is known of a mention: int [..., 3] (turns ago, named by the seeker, how often) -> int [...]."""
    ago, by_seeker, times = (mentions[..., i].astype(jnp.int32) for i in range(3))
    ago, times = jnp.clip(ago, 1, AGO) - 1, jnp.clip(times, 1, TIMES) - 1
    return (ago * 2 + by_seeker) * TIMES + times


LIKE_POWER = 2.0
"""What being liked counts for beside being recommended; settled on ReDial's validation split."""


class Scores(NamedTuple):
    """What the recommender says of candidates.

    Attributes:
      logits: [B, I] of which is recommended: a softmax over the candidates.
      liking: [B] of the seeker's liking what is recommended: a sigmoid each; None without that head.
    """

    logits: jax.Array
    liking: jax.Array | None

    @property
    def total(self) -> jax.Array:
        """What candidates are ranked by, [B, I]: log p(recommended) + `LIKE_POWER` times the log odds of being liked."""
        found = jax.nn.log_softmax(self.logits)
        return found if self.liking is None else found + LIKE_POWER * self.liking[:, None]


class AttentionPool(nn.Module):
    """Weighted mean of rows by a learned score tanh(x W) v (+ bias), then a linear map: [B, S, D] -> [B, D]."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, bias: jax.Array | float = 0.0) -> jax.Array:
        width = x.shape[-1]
        x = nn.LayerNorm(name="norm")(x)
        scores = Linear(1, use_bias=False, name="score")(nn.tanh(Linear(width // 4, name="hidden")(x)))[..., 0]
        weights = masked_softmax(scores + bias, mask, axis=1)  # [B, S]
        return Linear(width, use_bias=False, name="out")(jnp.einsum("bs,bsd->bd", weights, x))


class Heads(nn.Module):
    """The scoring heads of `Recommender`; see `HeadConfig`."""

    config: HeadConfig
    entities: int
    emotions: bool
    dropout: float

    @nn.compact
    def __call__(
        self,
        state: jax.Array,
        table: EntityTable,
        fused: Fused,
        emotion_table: jax.Array | None,
        batch: Mapping[str, jax.Array],
        item_ids: jax.Array,
        item_prior: jax.Array | None,
        facts: Facts | None,
    ) -> Scores:
        c, width, items = self.config, table.width, item_ids.shape[0]
        # The column of an entity among the candidates; `items`, which `scatter` drops, where it is none of them.
        columns = jnp.full(self.entities + 1, items).at[item_ids].set(jnp.arange(items))
        mask = batch["entity_mask"].astype(bool)
        ago = recency(mask)  # [B, E]
        query = state
        if c.query == "pooled":
            slots = fused.prompt.shape[1] // mask.shape[1]  # local, or local and global
            order = self.param("recency", nn.initializers.zeros, (RECENCY_SLOTS,))[jnp.tile(ago, (1, slots))]
            query = (
                Linear(width, name="state")(nn.LayerNorm(name="state_norm")(state))
                + AttentionPool(name="entity_pool")(fused.prompt, fused.mask, order)
                + AttentionPool(name="token_pool")(fused.tokens, batch["text_mask"].astype(bool))
            )
            query = nn.Dropout(self.dropout)(query, deterministic=not self.has_rng("dropout")) * width**-0.5
        logits = query @ table[item_ids].T  # [B, I]
        if c.prior and item_prior is not None:
            prior = jnp.asarray(item_prior)[item_ids]  # [I]
            if "own_recommendations" in batch:
                prior += scatter(columns[batch["own_recommendations"]], batch["own_log_shift"], items)
            logits += self.param("prior_scale", nn.initializers.constant(0.5), ()) * prior
        if c.mentions:
            scores = self.param("mention_recency", nn.initializers.zeros, (RECENCY_SLOTS,))[ago]
            kinds = self.param("mention_kind", nn.initializers.zeros, (AGO * 2 * TIMES,))
            scores += kinds[mention_kind(batch["mentions"])]
            scores += Linear(1, scale=0.0, name="mention")(nn.LayerNorm(name="mention_norm")(fused.local))[..., 0]
            logits += scatter(columns[batch["entities"]], jnp.where(mask, scores, 0), items)
        if c.walk and facts is not None:
            logits += self.walked(fused, ago, batch, item_ids, facts)
        if c.copy != "none":
            logits += self.copied(fused, emotion_table, ago, batch, columns, items)
        return Scores(logits, self.liked(batch, table.dtype) if c.liking else None)

    def liked(self, batch, dtype) -> jax.Array:
        """Logits [B] of liking what is recommended next."""
        states, real = batch["text_states"].astype(dtype), batch["text_mask"].astype(bool)
        last = real & (batch["text_ages"] == 1)
        seen = [nn.LayerNorm(use_scale=False, use_bias=False)(mean(states, where)) for where in (real, last)]
        if self.emotions:
            seen.append(jnp.log1p(batch["emotion_totals"].astype(states.dtype)))
        return Linear(1, scale=0.0, name="like")(jnp.concatenate(seen, axis=-1))[:, 0]

    def walked(self, fused, ago, batch, item_ids, facts) -> jax.Array:
        """Logits [B, I] of the items that share facts with the mentions."""
        felt = nn.LayerNorm(name="walk_norm")(fused.prompt[:, : ago.shape[1]])  # [B, E, D]
        slots = 1.0 + Linear(1, scale=0.0, name="walk_slot")(felt)[..., 0]
        slots *= jnp.exp(self.param("walk_recency", nn.initializers.zeros, (RECENCY_SLOTS,))[ago])
        slots = jnp.where(batch["entity_mask"].astype(bool), slots, 0)
        # Two weights a relation: on the way to a fact and on the way back. The last row is "its own fact".
        weigh = jnp.exp(self.param("walk_relations", nn.initializers.zeros, (2, facts.relations + 1)))
        own = facts.entities[batch["entities"]]  # [B, E, A]
        there = slots[..., None] * weigh[0, facts.types[batch["entities"]]] * facts.weights[batch["entities"]]
        rows = jnp.arange(own.shape[0])[:, None, None]
        # Entities first: what is then gathered, and in the gradient added up, are whole rows and not single numbers.
        reached = jnp.zeros((self.entities + 1, own.shape[0]), there.dtype).at[own, rows].add(there)
        reached = reached.at[self.entities].set(0)  # [N + 1, B]
        back = weigh[1, facts.types[item_ids]] * facts.weights[item_ids]  # [I, A]
        mass = jnp.einsum("iab,ia->bi", reached[facts.entities[item_ids]], back)
        unit = jnp.exp(self.param("walk_unit", nn.initializers.constant(jnp.log(10.0)), ()))
        return self.param("walk_scale", nn.initializers.ones, ()) * jnp.arcsinh(unit * mass)

    def copied(self, fused, emotion_table, ago, batch, columns, items) -> jax.Array:
        """Logits [B, I] from the co-occurrence rows of the context's entities, weighted by slot."""
        weights = batch["neighbour_weights"].astype(fused.tokens.dtype)  # [B, E, K]
        if self.config.copy == "published":
            felt = jnp.einsum(
                "bel,belm->bem", batch["emotion_probs"].astype(weights.dtype), emotion_table[batch["emotions"]]
            )
            hidden = nn.relu(Linear(emotion_table.shape[-1] // 2, name="copy_down")(felt))
            slots = Linear(1, name="copy_out")(Linear(fused.tokens.shape[-1], name="copy_up")(hidden))  # [B, E, 1]
            return 0.5 * scatter(columns[batch["neighbours"]], slots * weights, items)
        ids = batch.get("cooccurring_items", batch["neighbours"])
        weights = batch.get("cooccurrence_weights", weights).astype(weights.dtype)  # [B, E, C]
        slots = jnp.exp(self.param("copy_recency", nn.initializers.zeros, (RECENCY_SLOTS,))[ago])[
            ..., None
        ]  # [B, E, 1]
        mass = scatter(columns[ids], slots * weights, items)
        # 100: an item that follows a mention in one of a hundred dialogues gets log 2
        unit = jnp.exp(self.param("copy_unit", nn.initializers.constant(jnp.log(100.0)), ()))
        return self.param("copy_scale", nn.initializers.ones, ()) * jnp.log1p(unit * mass)


class Recommender(nn.Module):
    """The knowledge prompt and the heads that rank items.

    The graph is encoded once and used three times:
    `table = entity_table(graph)`, then `rank(table, batch, ...)`: `fused, prefix = read(table, batch, task)`, a frozen
    language model makes `state` from the prefix, `scores(state, table, fused, batch, item_ids)`.

    Attributes:
      prompt: the prompt encoder's config; its parameters are the subtree "encoder".
      heads: the heads' config.

    Reference: ECR 3.2, Eqs. 2-7.
    """

    prompt: PromptConfig
    heads: HeadConfig

    def setup(self):
        self.encoder = PromptEncoder(self.prompt)
        self.head = Heads(self.heads, self.prompt.entities, self.prompt.emotions, self.prompt.dropout)
        if self.heads.copy == "published" and not self.prompt.emotions:
            raise ValueError("copy='published' weighs by emotion: turn prompt.emotions on, or choose copy='mass'")

    def entity_table(self, graph: jraph.GraphsTuple, entity_text: jax.Array | None = None) -> EntityTable:
        """E, see `PromptEncoder.entity_table`."""
        return self.encoder.entity_table(graph, entity_text)

    def read(self, table: EntityTable, batch: Mapping[str, jax.Array], task: Task) -> tuple[Fused, Prefix]:
        """The fused prompt of a batch and its prefix for the language model."""
        fused = self.encoder.fuse(table, batch, task)
        return fused, self.encoder.project(fused, task)

    def scores(
        self,
        state: jax.Array,
        table: EntityTable,
        fused: Fused,
        batch: Mapping[str, jax.Array],
        item_ids: jax.Array,
        item_prior: jax.Array | None = None,
        facts: Facts | None = None,
    ) -> Scores:
        """Scores candidates.

        Args:
          state: [B, D] the language model's state of the last context token.
          table: E.
          fused: from `read`, of the task recommendation or fusion.
          batch: the arrays that `PromptEncoder.fuse` reads.
          item_ids: int [I] entities to score.
          item_prior: [N + 1] log popularity, or None. A constant, not a parameter.
          facts: of every entity, or None to leave the walk out.

        Returns:
          What is said of each candidate in each row.
        """
        emotions = self.encoder.emotion_table() if self.heads.copy == "published" else None
        return self.head(state.astype(table.dtype), table, fused, emotions, batch, item_ids, item_prior, facts)

    def rank(
        self,
        table: EntityTable,
        batch: Mapping[str, jax.Array],
        item_ids: jax.Array,
        task: Task = "recommendation",
        language_model: LanguageModel | None = None,
        item_prior: jax.Array | None = None,
        facts: Facts | None = None,
    ) -> Scores:
        """From the encoded entities to the candidates' scores.

        Args:
          table: E.
          batch: as `scores`, and `tokens`, `token_mask` [B, T] for the language model.
          item_ids: int [I] entities to score.
          task: "recommendation" or "fusion" (no learned positions).
          language_model: the frozen model; None leaves it out (its state is zero), to initialise or to ablate.
          item_prior, facts: see `scores`.
        """
        fused, prefix = self.read(table, batch, task)
        if language_model is None:
            state = jnp.zeros((batch["entities"].shape[0], self.prompt.width), table.dtype)
        else:
            state = language_model(batch, prefix)
        return self.scores(state, table, fused, batch, item_ids, item_prior, facts)

    def __call__(
        self, graph: jraph.GraphsTuple, *arguments: Any, entity_text: jax.Array | None = None, **named: Any
    ) -> Scores:
        """`entity_table` and `rank` in one, from the graph to the scores; initialises the parameters of a task."""
        return self.rank(self.entity_table(graph, entity_text), *arguments, **named)
