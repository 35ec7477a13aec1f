"""The knowledge prompt: words, entities and emotions fused into keys and values that a language model reads first.

`PromptEncoder.entity_table` encodes the graph once; `PromptEncoder.fuse` and `PromptEncoder.prefix` use its rows.
Letters: B rows, S text states, E context entities, K neighbours, P prefix positions, N entities (row N is the padding
entity), D width of the language model, L its layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph
from flax import struct

from ecr_jax.models.lm.linear import times
from ecr_jax.models.rgcn import RGCN, encoded

EMOTIONS = 9
"""Number of emotions; the padding emotion is the id after the last."""

Task = Literal["fusion", "recommendation", "conversation"]

FIDELITY: dict[str, dict[str, Any]] = {
    "code": dict(
        masked=False, cross_exponent=1.0, emotion_table="tower", emotion_fusion="published", node_init="glorot",
        normalise=False, prefix_scale=1.0, dropout=0.0,
    ),
    "paper": dict(
        masked=True, cross_exponent=1.0, emotion_table="direct", emotion_fusion="linear", node_init="glorot",
        normalise=False, prefix_scale=1.0, dropout=0.0,
    ),
    "improved": dict(
        masked=True, cross_exponent=0.5, emotion_table="tower", emotion_fusion="residual", node_init="unit",
        normalise=True, prefix_scale=0.02, dropout=0.1,
    ),
}  # fmt: skip
"""What each preset says of the fields of `PromptConfig` in which they differ."""


@dataclass(frozen=True)
class PromptConfig:
    """Sizes and choices of the prompt encoder; `PromptConfig.fidelity` fills in a preset.

    Attributes:
      entities: N, the graph's entities without the padding entity (the table has N + 1 rows).
      relations: R.
      width: D, hidden width of the language model.
      layers, kv_heads, head_dim: L, Hkv and Dh of the language model's keys and values.
      token_width: width of the text encoder's states.
      entity_width: width of the graph convolution (published: D / 2).
      emotion_width: width of a fused emotion (published: D / 16).
      bases: basis matrices of the graph convolution.
      recommendation_prefix, conversation_prefix: learned positions before a task's prompt.
      emotions: False leaves emotions out (with `global_entities` False: UniCRS).
      global_entities: False leaves the emotion-related neighbours out (ECR[L]).
      masked: padded words, entities and prefix positions are neither attended to nor encoded. The published code has
        no such masks.
      cross_exponent: words and entities meet with scores divided by D ** cross_exponent.
      emotion_table: "tower": a table of width D, an MLP and a projection; "direct": a table of `emotion_width`.
      emotion_fusion: "published": three linear maps with one ReLU; "linear": Eq. 4's single map; "residual": an MLP's
        output added to the entity.
      node_init: "glorot" over the node table, as published; "unit": rows of norm about 1, so that entities differ from
        the first step.
      normalise: LayerNorm over the entity table's rows and before the keys and values.
      prefix_scale: scale of the initial keys and values; a small one leaves the language model as it was at first.
      dropout: rate on the node features and queries while training (an rng named "dropout" is given).
    """

    entities: int
    relations: int
    width: int
    layers: int
    kv_heads: int
    head_dim: int
    token_width: int
    entity_width: int
    emotion_width: int
    bases: int = 8
    recommendation_prefix: int = 10
    conversation_prefix: int = 20
    emotions: bool = True
    global_entities: bool = True
    masked: bool = True
    cross_exponent: float = 0.5
    emotion_table: Literal["tower", "direct"] = "tower"
    emotion_fusion: Literal["published", "linear", "residual"] = "residual"
    node_init: Literal["glorot", "unit"] = "unit"
    normalise: bool = True
    prefix_scale: float = 0.02
    dropout: float = 0.1

    @classmethod
    def fidelity(cls, preset: str = "improved", **fields: Any) -> PromptConfig:
        """A config of the preset `paper`, `code` or `improved`; `fields` win. Widths not given follow from `width`.

        Raises:
          ValueError: there is no such preset.
        """
        if preset not in FIDELITY:
            raise ValueError(f"fidelity is {preset!r}; choose one of {', '.join(FIDELITY)}")
        widths = {"entity_width": fields["width"] // 2, "emotion_width": fields["width"] // 16}
        return cls(**{**widths, **FIDELITY[preset], **fields})


class Fused(NamedTuple):
    """What the prompt is made of, before the task's learned positions.

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
      places: int32 [N + 1] the row of each entity, the last one's where it was not encoded; None where all are.
    """

    rows: jax.Array
    places: jax.Array | None = None

    def __getitem__(self, ids: jax.Array) -> jax.Array:
        return self.rows[ids if self.places is None else self.places[ids]]

    @property
    def dtype(self) -> Any:
        """Of the rows."""
        return self.rows.dtype

    @property
    def width(self) -> int:
        """D."""
        return self.rows.shape[-1]


class Linear(nn.Module):
    """y = x W + b with torch's initial law: both uniform within scale / sqrt(fan in)."""

    features: int
    use_bias: bool = True
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        bound = self.scale * x.shape[-1] ** -0.5

        def init(key, shape, dtype=jnp.float32):
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        y = times(x, self.param("kernel", init, (x.shape[-1], self.features)))
        return y + self.param("bias", init, (self.features,)) if self.use_bias else y


class Tower(nn.Module):
    """x + MLP(x), with a hidden layer of half the width and a ReLU."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        return x + Linear(width, name="up")(nn.relu(Linear(width // 2, name="down")(x)))


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


def masked_softmax(scores: jax.Array, mask: jax.Array | None, axis: int) -> jax.Array:
    """Softmax over the True entries of an axis; zeros where there is none. `mask` None: all are real."""
    if mask is None:
        return jax.nn.softmax(scores, axis=axis)
    scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    return jnp.where(mask, jax.nn.softmax(scores, axis=axis), 0)


class PromptEncoder(nn.Module):
    """Turns text states, context entities, emotions and neighbours into a prefix for a frozen language model.

    Reference: ECR 3.2, Eqs. 2-6; UniCRS 3.2.
    """

    config: PromptConfig

    def setup(self):
        c = self.config
        nodes = {"glorot": nn.initializers.glorot_uniform(), "unit": nn.initializers.normal(c.entity_width**-0.5)}
        self.nodes = self.param("nodes", nodes[c.node_init], (c.entities + 1, c.entity_width))
        self.entity_text = Linear(c.entity_width, use_bias=False)
        self.rgcn = RGCN(c.relations, c.bases)
        self.entity_tower = Tower()
        self.entity_out = Linear(c.width)
        self.token_tower = Tower()
        self.token_out = Linear(c.width)
        self.cross = Linear(c.width, use_bias=False)
        if c.emotions:
            width = c.width if c.emotion_table == "tower" else c.emotion_width
            self.emotions = self.param("emotions", nn.initializers.glorot_uniform(), (EMOTIONS + 1, width))
            self.emotion_tower = Tower()
            self.emotion_out = Linear(c.emotion_width)
            self.emotion_fusion = EmotionFusion(c.emotion_fusion)
        self.recommendation = TaskPrefix(c.recommendation_prefix, c.width)
        self.conversation = TaskPrefix(c.conversation_prefix, c.width)
        self.prompt_tower = Tower()
        self.entity_norm = nn.LayerNorm(use_scale=False, use_bias=False)
        self.prompt_norm = nn.LayerNorm()
        self.key_values = Linear(c.layers * 2 * c.kv_heads * c.head_dim, scale=c.prefix_scale)
        self.drop = nn.Dropout(c.dropout)

    def entity_table(self, graph: jraph.GraphsTuple, entity_text: jax.Array | None = None) -> EntityTable:
        """Encodes the graph: once a step, or once an evaluation.

        Args:
          graph: from `rgcn.graphs_tuple`, with N + 1 nodes, of which the padding entity is wanted.
          entity_text: [N + 1, W_text] frozen features of the entities (what is written about them), or None.

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
        return EntityTable(rows.at[-1].set(0) if self.config.masked else rows, graph.globals.get("rows"))

    def emotion_table(self) -> jax.Array:
        """The emotions' vectors M [10, emotion_width], the padding emotion last."""
        if self.config.emotion_table == "direct":
            return self.emotions
        return self.emotion_out(self.emotion_tower(self.emotions))

    def fuse(self, table: EntityTable, batch: Mapping[str, jax.Array], task: Task) -> Fused:
        """Lets words and entities meet.

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
        scores = jnp.einsum("bsd,bed->bse", self.cross(tokens), entities) * c.width**-c.cross_exponent
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
            felt = jnp.einsum("bel,belm->bem", probs, self.emotion_table()[batch["emotions"]])  # Eq. 3
            felt = jnp.tile(felt, (1, prompt.shape[1] // felt.shape[1], 1))
            prompt = self.emotion_fusion(prompt, felt)
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
        c = self.config
        prompt, mask = self.task_prompt(fused, task)
        prompt = self.prompt_tower(prompt)
        if c.normalise:
            prompt = self.prompt_norm(prompt)
        key_values = self.key_values(prompt).reshape(*mask.shape, c.layers, 2, c.kv_heads, c.head_dim)
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
