"""The knowledge prompt: words, entities and emotions fused into the prefix (keys and values) of a language model.

`PromptEncoder.entity_table` encodes the graph once; `PromptEncoder.fuse` and `PromptEncoder.prefix` use its rows.
Letters: B rows, S text states, E context entities, K neighbours, P prefix positions, N entities (row N is the padding
entity), D width of the language model, L its layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph
from flax import struct

from ecr_jax.models.hyperparameters import PromptConfig
from ecr_jax.models.layers import Linear, Tower, masked_softmax
from ecr_jax.models.rgcn import RGCN, encoded, globals_of

EMOTIONS = 9
"""Number of emotions; the padding emotion is the id after the last."""

Task = Literal["fusion", "recommendation", "conversation"]


@dataclass(frozen=True)
class PromptSizes:
    """Sizes of the prompt encoder that follow from the graph, the language model and the text encoder.

    Attributes:
      entities: N, the graph's entities without the padding entity (the table has N + 1 rows).
      relations: R.
      width: D, hidden width of the language model.
      layers, kv_heads, head_dim: L, Hkv and Dh of the language model's keys and values.
      token_width: width of the text encoder's states.
    """

    entities: int
    relations: int
    width: int
    layers: int
    kv_heads: int
    head_dim: int
    token_width: int


class Fused(NamedTuple):
    """The parts of the prompt, before the task's learned positions are added.

    Attributes:
      tokens: [B, S, D] projected text states.
      local: [B, E, D] context entities that have attended to the words (before emotions).
      neighbours: [B, E, D] weighted means of the entities related to each by emotion; None without global entities.
      prompt: [B, P', D] the fused prompt: local then global entities, or words for a conversation.
      mask: bool [B, P'].
    """

    tokens: jax.Array
    local: jax.Array | None
    neighbours: jax.Array | None
    prompt: jax.Array
    mask: jax.Array


class Prefix(NamedTuple):
    """Keys and values for every layer of a language model, each [L, B, Hkv, P, Dh], and their mask, bool [B, P]."""

    keys: jax.Array
    values: jax.Array
    mask: jax.Array


@struct.dataclass
class EntityTable:
    """The encoded entities E: `table[ids]` are the rows [..., D] of entity ids.

    Attributes:
      rows: [M, D] the encoded entities, the padding entity last.
      row_of_entity: int32 [N + 1] the row of each entity, the last row if it was not encoded; None if all are.
    """

    rows: jax.Array
    row_of_entity: jax.Array | None = None

    def __getitem__(self, ids: jax.Array) -> jax.Array:
        return self.rows[ids if self.row_of_entity is None else self.row_of_entity[ids]]

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of the rows."""
        return self.rows.dtype

    @property
    def width(self) -> int:
        """D."""
        return self.rows.shape[-1]


class EmotionFusion(nn.Module):
    """Joins an entity [..., D] and its emotion [..., M] into [..., D] (Eq. 4; see `PromptConfig.emotion_fusion`)."""

    kind: str

    @nn.compact
    def __call__(self, entity: jax.Array, emotion: jax.Array) -> jax.Array:
        width = entity.shape[-1]
        x = jnp.concatenate([entity, emotion], axis=-1)
        if self.kind == "linear":
            return Linear(width, name="out")(x)
        hidden = nn.relu(Linear(width, name="down")(x))
        if self.kind == "residual":
            return entity + Linear(width, name="out")(hidden)
        return Linear(width, name="out")(Linear(x.shape[-1], name="up")(hidden))


class TaskPrefix(nn.Module):
    """Learned positions of a task: P0 + MLP(P0), [n, D]."""

    positions: int
    width: int

    @nn.compact
    def __call__(self) -> jax.Array:
        table = self.param("table", nn.initializers.normal(1.0), (self.positions, self.width))
        return Tower(name="tower")(table)


class PromptEncoder(nn.Module):
    """Turns text states, context entities, emotions and neighbours into a prefix for a frozen language model.

    Attributes:
      config: hyperparameters.
      sizes: sizes that follow from the data and the language model.

    Reference: ECR 3.2, Eqs. 2-6; UniCRS 3.2.

    >>> import numpy as np
    >>> from ecr_jax.models.rgcn import graphs_tuple
    >>> sizes = PromptSizes(entities=3, relations=1, width=8, layers=2, kv_heads=1, head_dim=4, token_width=6)
    >>> config = PromptConfig(entity_width=4, emotion_width=2, conversation_prefix=5)
    >>> graph = graphs_tuple(np.array([0, 1]), np.array([1, 2]), np.array([0, 0]), nodes=4)  # with the padding entity
    >>> batch = {
    ...     "text_states": jnp.ones((1, 2, 6)),  # the states of two words
    ...     "text_mask": jnp.ones((1, 2), bool),
    ...     "entities": jnp.array([[1]]),
    ...     "entity_mask": jnp.ones((1, 1), bool),
    ... }
    >>> encoder = PromptEncoder(config, sizes)
    >>> initialise = lambda key: encoder.init_with_output(key, graph, batch, "conversation")
    >>> prefix, variables = jax.eval_shape(initialise, jax.random.key(0))  # shapes only; call it for numbers
    >>> prefix.keys.shape  # [L, B, Hkv, 5 learned positions + 2 words, Dh]
    (2, 1, 1, 7, 4)
    """

    config: PromptConfig
    sizes: PromptSizes

    def setup(self) -> None:
        c, sizes = self.config, self.sizes
        nodes = {"glorot": nn.initializers.glorot_uniform(), "unit": nn.initializers.normal(c.entity_width**-0.5)}
        self.nodes = self.param("nodes", nodes[c.node_init], (sizes.entities + 1, c.entity_width))
        self.entity_text = Linear(c.entity_width, use_bias=False)
        self.rgcn = RGCN(sizes.relations, c.bases)
        self.entity_tower = Tower()
        self.entity_out = Linear(sizes.width)
        self.token_tower = Tower()
        self.token_out = Linear(sizes.width)
        self.cross = Linear(sizes.width, use_bias=False)
        if c.emotions:
            width = sizes.width if c.emotion_table == "tower" else c.emotion_width
            self.emotions = self.param("emotions", nn.initializers.glorot_uniform(), (EMOTIONS + 1, width))
            self.emotion_tower = Tower()
            self.emotion_out = Linear(c.emotion_width)
            self.emotion_fusion = EmotionFusion(c.emotion_fusion)
        self.recommendation = TaskPrefix(c.recommendation_prefix, sizes.width)
        self.conversation = TaskPrefix(c.conversation_prefix, sizes.width)
        self.prompt_tower = Tower()
        self.entity_norm = nn.LayerNorm(use_scale=False, use_bias=False)
        self.prompt_norm = nn.LayerNorm()
        self.key_values = Linear(sizes.layers * 2 * sizes.kv_heads * sizes.head_dim, scale=c.prefix_scale)
        self.drop = nn.Dropout(c.dropout)

    def entity_table(self, graph: jraph.GraphsTuple, entity_text: jax.Array | None = None) -> EntityTable:
        """Encodes the graph: once a step, or once an evaluation.

        Args:
          graph: from `rgcn.graphs_tuple`, with N + 1 nodes; the padding entity must be among the encoded ones.
          entity_text: [N + 1, W_text] frozen text features of the entities, or None.

        Returns:
          E; its last row, the padding entity, is zero if `masked`.
        """
        nodes = self.nodes
        if entity_text is not None:
            nodes = nodes + self.entity_text(entity_text.astype(nodes.dtype))
        nodes = self.drop(nodes, deterministic=not self.has_rng("dropout"))
        rows = self.entity_out(self.entity_tower(self.rgcn(nodes, graph) + encoded(nodes, graph)))  # [M, D]
        if self.config.normalise:
            rows = self.entity_norm(rows)
        return EntityTable(rows.at[-1].set(0) if self.config.masked else rows, globals_of(graph).get("rows"))

    def emotion_table(self) -> jax.Array:
        """The emotion embeddings M [10, emotion_width], the padding emotion last."""
        if self.config.emotion_table == "direct":
            return self.emotions
        return self.emotion_out(self.emotion_tower(self.emotions))

    def fuse(self, table: EntityTable, batch: Mapping[str, jax.Array], task: Task) -> Fused:
        """Fuses text states, entities, neighbours and emotions by cross-attention (Eqs. 2-6).

        Args:
          table: E from `entity_table`.
          batch: `text_states` [B, S, W_token], `text_mask`, `entities` [B, E], `entity_mask`; unless
            the task is a conversation also `emotions` and `emotion_probs` [B, E, 3], `neighbours` and
            `neighbour_weights` [B, E, K]; each as far as the config uses it.
          task: "conversation" makes a prompt of words, the others one of entities.

        Returns:
          The parts, see `Fused`.
        """
        c = self.config
        text_mask, entity_mask = (batch[k].astype(bool) for k in ("text_mask", "entity_mask"))
        tokens = self.token_out(self.token_tower(batch["text_states"].astype(table.dtype)))  # [B, S, D]
        entities = table[batch["entities"]]  # [B, E, D]
        scores = (
            jnp.einsum("bsd,bed->bse", self.cross(tokens), entities) * self.sizes.width**-c.cross_attention_exponent
        )
        if task == "conversation":
            weights = masked_softmax(scores, entity_mask[:, None, :] if c.masked else None, axis=2)
            prompt = jnp.einsum("bse,bed->bsd", weights, entities) + tokens
            return Fused(tokens, None, None, prompt, text_mask if c.masked else jnp.ones_like(text_mask))
        weights = masked_softmax(scores, text_mask[:, :, None] if c.masked else None, axis=1)
        local = jnp.einsum("bse,bsd->bed", weights, tokens) + entities
        prompt, mask = local, entity_mask
        neighbours = None
        if c.global_entities:
            weights = batch["neighbour_weights"].astype(table.dtype)  # [B, E, K]
            neighbours = jnp.einsum("bek,bekd->bed", weights, table[batch["neighbours"]])
            prompt = jnp.concatenate([prompt, neighbours], axis=1)  # [B, 2E, D]
            mask = jnp.concatenate([mask, entity_mask & (weights != 0).any(axis=-1)], axis=1)
        if c.emotions:
            probs = batch["emotion_probs"].astype(table.dtype)
            emotion = jnp.einsum("bel,belm->bem", probs, self.emotion_table()[batch["emotions"]])  # Eq. 3
            emotion = jnp.tile(emotion, (1, prompt.shape[1] // emotion.shape[1], 1))
            prompt = self.emotion_fusion(prompt, emotion)
        return Fused(tokens, local, neighbours, prompt, mask if c.masked else jnp.ones_like(mask))

    def task_prompt(self, fused: Fused, task: Task) -> tuple[jax.Array, jax.Array]:
        """Puts the task's learned positions first (fusion has none): prompt [B, P, D] and mask bool [B, P]."""
        if task == "fusion":
            return fused.prompt, fused.mask
        learned = self.recommendation() if task == "recommendation" else self.conversation()
        batch = fused.prompt.shape[0]
        prompt = jnp.concatenate([jnp.broadcast_to(learned, (batch, *learned.shape)), fused.prompt], axis=1)
        return prompt, jnp.concatenate([jnp.ones((batch, learned.shape[0]), bool), fused.mask], axis=1)

    def project(self, fused: Fused, task: Task) -> Prefix:
        """Projects a fused prompt to the keys and values of every layer of the language model."""
        c, sizes = self.config, self.sizes
        prompt, mask = self.task_prompt(fused, task)
        prompt = self.prompt_tower(prompt)
        if c.normalise:
            prompt = self.prompt_norm(prompt)
        key_values = self.key_values(prompt).reshape(*mask.shape, sizes.layers, 2, sizes.kv_heads, sizes.head_dim)
        # Split, not indexed: the gradients of the parts are then put side by side, not padded and added up.
        keys, values = (part[:, :, :, 0].transpose(2, 0, 3, 1, 4) for part in jnp.split(key_values, 2, axis=3))
        return Prefix(keys, values, mask)  # [L, B, Hkv, P, Dh]

    def prefix(self, table: EntityTable, batch: Mapping[str, jax.Array], task: Task) -> Prefix:
        """`fuse`, then `project`: the prefix of a task for the rows of a batch."""
        return self.project(self.fuse(table, batch, task), task)

    def __call__(
        self, graph: jraph.GraphsTuple, batch: Mapping[str, jax.Array], task: Task, entity_text: jax.Array | None = None
    ) -> Prefix:
        """Everything from the graph to the prefix; initialises the parameters that the task uses."""
        return self.prefix(self.entity_table(graph, entity_text), batch, task)
