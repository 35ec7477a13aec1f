"""Hyperparameters of the models as frozen dataclasses. Imports no jax, so that a command line can show them at once.

Sizes that follow from data or from a language model (numbers of entities, layers, ...) are not here: they are
arguments of the modules, such as `prompt.PromptSizes`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from ecr_jax.errors import require, require_at_least, require_choice, require_patterns, require_rate

QuantizationFormat = Literal["int8", "nf4"]
"""Formats of a quantised kernel, see `models.lm.quantized`."""

Remat = Literal["none", "dots", "full"]
"""What the backward pass computes again to save memory: nothing, all but matrix products, or whole layers."""

PrefixVisibility = Literal["all", "last"]
"""Which context tokens attend to the prefix: all, as published, or the last one, whose state is the query."""

LIKE_PARTS = ("turn", "item", "entities", "total")
"""What the log odds of being liked are a sum of, and the sum: the fields of `models.heads.LikeLogits`, and `total`."""

ATTENTION = (r"layers/attention/.*",)
"""The projections of attention, in every language model here."""


@dataclass(frozen=True)
class LoraConfig:
    """LoRA: which projections are adapted and how, in PEFT's terms.

    Attributes:
      patterns: regular expressions of whole parameter paths, such as "layers/attention/[qv]"; each must match.
      rank: r, the columns of A and the rows of B.
      alpha: the adapter's product is scaled by alpha / r.
      dropout: dropout rate on the adapter's input during training.
      rank_pattern: (regular expression of a path, rank) pairs for projections of another rank; the first match counts.
      alpha_pattern: (regular expression of a path, alpha) pairs, likewise.
      rank_stabilised: scale by alpha / sqrt(r) instead (Kalajdzievski 2023, rsLoRA).
    """

    patterns: tuple[str, ...] = ATTENTION
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    rank_pattern: tuple[tuple[str, int], ...] = ()
    alpha_pattern: tuple[tuple[str, float], ...] = ()
    rank_stabilised: bool = False

    def __post_init__(self) -> None:
        require(self, "patterns", bool(self.patterns), "name the projections to adapt, such as 'layers/attention/.*'")
        require_at_least(self, 1, "rank")
        require(self, "alpha", self.alpha > 0, "must be above 0, for example twice the rank")
        require_rate(self, "dropout")
        require(self, "rank_pattern", all(rank >= 1 for _, rank in self.rank_pattern), "ranks must be at least 1")
        require(self, "alpha_pattern", all(alpha > 0 for _, alpha in self.alpha_pattern), "alphas must be above 0")
        require_patterns(self, "patterns", self.patterns)
        require_patterns(self, "rank_pattern", (pattern for pattern, _ in self.rank_pattern))
        require_patterns(self, "alpha_pattern", (pattern for pattern, _ in self.alpha_pattern))

    def rank_of(self, path: str) -> int:
        """The rank of a projection."""
        return next((rank for pattern, rank in self.rank_pattern if re.fullmatch(pattern, path)), self.rank)

    def alpha_of(self, path: str) -> float:
        """The alpha of a projection."""
        return next((alpha for pattern, alpha in self.alpha_pattern if re.fullmatch(pattern, path)), self.alpha)

    def scale_of(self, path: str) -> float:
        """The factor of the adapter's product at a projection."""
        rank = self.rank_of(path)
        return self.alpha_of(path) / (math.sqrt(rank) if self.rank_stabilised else rank)


@dataclass(frozen=True)
class PromptConfig:
    """The knowledge prompt (soft prompt of words, entities and emotions). Defaults are the preset `improved`.

    Attributes:
      entity_width: width of the RGCN (published: half the language model's width).
      emotion_width: width of an emotion vector when it is fused (published: a sixteenth of that width).
      bases: basis matrices of the RGCN.
      recommendation_prefix, conversation_prefix: learned positions before the prompt of each task.
      emotions: False removes emotions (with `global_entities` False: UniCRS).
      global_entities: False removes the entities related by emotion (the ablation ECR[L]).
      masked: padded words, entities and prefix positions are neither attended to nor encoded. The published code has
        no such masks.
      cross_attention_exponent: cross-attention scores of words and entities are divided by D ** exponent.
      emotion_table: "tower": a table of width D, an MLP and a projection; "direct": a table of `emotion_width`.
      emotion_fusion: "published": three linear maps with one ReLU; "linear": Eq. 4's single map; "residual": an MLP's
        output added to the entity.
      node_init: "glorot" over the node table, as published; "unit": rows of norm about 1, so that entities differ from
        the first step.
      normalise: LayerNorm over the rows of the entity table and before the keys and values.
      prefix_scale: scale of the initial keys and values; a small one leaves the language model as it was at first.
      dropout: dropout rate of node features and queries during training.
    """

    entity_width: int
    emotion_width: int
    bases: int = 8
    recommendation_prefix: int = 10
    conversation_prefix: int = 20
    emotions: bool = True
    global_entities: bool = True
    masked: bool = True
    cross_attention_exponent: float = 0.5
    emotion_table: Literal["tower", "direct"] = "tower"
    emotion_fusion: Literal["published", "linear", "residual"] = "residual"
    node_init: Literal["glorot", "unit"] = "unit"
    normalise: bool = True
    prefix_scale: float = 0.02
    dropout: float = 0.1

    def __post_init__(self) -> None:
        require_at_least(
            self, 1, "entity_width", "emotion_width", "bases", "recommendation_prefix", "conversation_prefix"
        )
        require_at_least(self, 0.0, "cross_attention_exponent", "prefix_scale")
        require_choice(self, "emotion_table", ("tower", "direct"))
        require_choice(self, "emotion_fusion", ("published", "linear", "residual"))
        require_choice(self, "node_init", ("glorot", "unit"))
        require_rate(self, "dropout")


@dataclass(frozen=True)
class HeadsConfig:
    """The scoring heads, whose logits are summed. Defaults are the preset `improved`.

    Attributes:
      query: "state": the language model's last state times the entity table, as published; "pooled": its projection
        plus attention pools of the fused entities and of the text states, scaled by D ** -0.5, so that a small frozen
        language model is not a bottleneck.
      cooccurrence: the co-occurrence head. "none"; "published": the optional one of the released code (co-occurrence
        times a scalar of each mention's emotion, times 0.5); "mass": a learned multiple of log(1 + c m) of the
        co-occurrence mass m of an item.
      two_hop: the two-hop knowledge-graph head: a learned multiple of asinh of what reaches an item in two hops, from a
        mention to its facts (director, genre, ...) and from there to the items that share them.
      repetition: what becomes of entities that the context already mentions. "none": nothing; "score": the repetition
        head, a learned score for each of them; "gate": this score, and the repetition gate, which makes the
        probabilities g · p(mentioned) + (1 - g) · p(new), with g from the last turn and from who mentioned what when.
      prior: a learned multiple of the items' log popularity in training.
      mixture: the mixture head: the logarithm of a weighted sum of distributions, among them co-occurrence and what was
        recommended after the nearest training contexts, with weights that follow from the last turn. The heads of
        query and two hops then begin at zero, so that training begins with the untrained baseline `hybrid`. The stages
        fusion and conversation do not read what it needs, and have it not.
      feeling: the seeker's feelings about each mention change its weight in the heads of co-occurrence, two hops,
        repetition and mixture; and the aversion head: what resembles something disliked gets a lower logit.
      like_probability: the like-probability head: the log odds of each item being liked, if it is recommended next. It
        adds up a bias of the turn, the odds of the item in training, and the item's relation to what the context names.
      like_power: the power of the odds of being liked in the ranking score, to be chosen on a validation split; with 0
        they do not enter the ranking.
      odds_shrinkage: how many answers the mean item's odds count as, in the odds of an item.
      recency_slots: number of recency parameters of a head; mentions further back share the last one.
      mention_turns: number of ages of a mention, in turns, that the repetition head distinguishes.
      mention_counts: number of counts of mentions that it distinguishes.
    """

    query: Literal["state", "pooled"] = "pooled"
    cooccurrence: Literal["none", "published", "mass"] = "none"
    two_hop: bool = True
    repetition: Literal["none", "score", "gate"] = "score"
    prior: bool = False
    mixture: bool = True
    feeling: bool = True
    like_probability: bool = True
    like_power: float = 1.0
    odds_shrinkage: float = 5.0
    recency_slots: int = 32
    mention_turns: int = 6
    mention_counts: int = 3

    def __post_init__(self) -> None:
        require_choice(self, "query", ("state", "pooled"))
        require_choice(self, "cooccurrence", ("none", "published", "mass"))
        require_choice(self, "repetition", ("none", "score", "gate"))
        require_at_least(self, 1, "recency_slots", "mention_turns", "mention_counts")
        require(self, "odds_shrinkage", self.odds_shrinkage > 0, "must be above 0: some films have no dislikes")
