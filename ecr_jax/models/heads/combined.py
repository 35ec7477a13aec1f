"""Sums the scoring heads that the config turns on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ecr_jax.models.heads.aversion import Aversion
from ecr_jax.models.heads.cooccurrence import MassCooccurrence, PublishedCooccurrence
from ecr_jax.models.heads.feeling import dislike, feelings_of
from ecr_jax.models.heads.like_probability import LikeLogits, LikeProbability
from ecr_jax.models.heads.mixture import Mixture, SimilarFilms
from ecr_jax.models.heads.prior import Prior
from ecr_jax.models.heads.query import PooledQuery
from ecr_jax.models.heads.repetition import Repetition
from ecr_jax.models.heads.repetition_gate import RepetitionGate
from ecr_jax.models.heads.two_hop import Facts, TwoHop
from ecr_jax.models.hyperparameters import HeadsConfig
from ecr_jax.models.layers import candidate_columns, masked_mean, recency, scatter_by_entity
from ecr_jax.models.prompt import EntityTable, Fused


class Scores(NamedTuple):
    """What the recommender predicts of candidates; `ranking_scores` makes one number of both.

    Attributes:
      logits: [B, I] which candidate is recommended: a softmax over the candidates.
      liking: whether the seeker likes each candidate, if it is recommended: a sigmoid each; None without that head.
    """

    logits: jax.Array
    liking: LikeLogits | None


def ranking_scores(scores: Scores, like_power: float) -> jax.Array:
    """What candidates are ranked by: log p(recommended) + like_power times the log odds of being liked, [B, I].

    Args:
      scores: of the candidates.
      like_power: see `HeadsConfig.like_power`.

    >>> liking = LikeLogits(turn=jnp.ones((1, 1)), item=jnp.array([[0.5, 0.0]]), entities=jnp.zeros((1, 2)))
    >>> ranking_scores(Scores(jnp.array([[0.0, 0.0]]), liking), like_power=2.0).round(3).tolist()
    [[2.307, 1.307]]
    """
    log_probability = jax.nn.log_softmax(scores.logits)
    if scores.liking is None:
        return log_probability
    return log_probability + like_power * scores.liking.total


class Heads(nn.Module):
    """The scoring heads of `Recommender`.

    Attributes:
      config: which heads there are.
      entities: N, the graph's entities without the padding entity.
      emotions: whether the like-probability head uses the emotions of the context.
      dropout: dropout rate of the pooled query.
    """

    config: HeadsConfig
    entities: int
    emotions: bool
    dropout: float

    @nn.compact
    def __call__(
        self,
        *,
        state: jax.Array,
        table: EntityTable,
        fused: Fused,
        batch: Mapping[str, jax.Array],
        item_ids: jax.Array,
        item_prior: jax.Array | None = None,
        facts: Facts | None = None,
        item_odds: jax.Array | None = None,
        similar_films: SimilarFilms | None = None,
        emotion_table: jax.Array | None = None,
    ) -> Scores:
        """Scores candidates, see `Recommender.scores`; `emotion_table` [10, M] is for the published co-occurrence."""
        c, candidates, dtype = self.config, item_ids.shape[0], fused.tokens.dtype
        entity_mask, text_mask = batch["entity_mask"].astype(bool), batch["text_mask"].astype(bool)
        columns = candidate_columns(item_ids, self.entities)  # [N + 1]
        mention_recency = recency(entity_mask, c.recency_slots)  # [B, E]

        def together() -> tuple[jax.Array, jax.Array]:
            """The candidates' columns and weights of what co-occurs with each mention."""
            ids, weights = _cooccurring(batch)
            return columns[ids], weights.astype(dtype)

        feelings = None
        if c.feeling and self.emotions and "valence" in batch:
            feelings = feelings_of(batch["emotions"], batch["emotion_probs"].astype(dtype), batch["valence"])

        query = state
        if c.query == "pooled":
            query = PooledQuery(c.recency_slots, name="query")(
                state=state,
                prompt=fused.prompt,
                prompt_mask=fused.mask,
                tokens=fused.tokens,
                text_mask=text_mask,
                recency=mention_recency,
            )
            query = nn.Dropout(self.dropout)(query, deterministic=not self.has_rng("dropout")) * table.width**-0.5
        logits = query @ table[item_ids].T  # [B, I]
        # The other heads correct the mixture: it begins alone, so that training begins with the untrained hybrid.
        mixed = c.mixture and item_prior is not None and "nearest_items" in batch
        if mixed:
            logits *= self.param("correction", nn.initializers.zeros, ())

        log_popularity = None
        if item_prior is not None:
            log_popularity = jnp.asarray(item_prior)[item_ids]  # [I]
            if "own_recommendations" in batch:  # [B, I], less the part that a training dialogue contributes itself
                own = columns[batch["own_recommendations"]]
                log_popularity = log_popularity + scatter_by_entity(own, batch["own_log_shift"], candidates)
        if c.prior and log_popularity is not None:
            logits += Prior(name="prior")(log_popularity)
        if mixed and log_popularity is not None:
            associated = {
                "cooccurrence": together(),
                "liked": (columns[batch["liked_items"]], batch["liked_weights"]),
                "disliked": (columns[batch["disliked_items"]], batch["disliked_weights"]),
            }
            if similar_films is not None:
                similar = similar_films.entities[batch["entities"]], similar_films.weights[batch["entities"]]
                associated["film_text"] = columns[similar[0]], similar[1]
            logits += Mixture(c.recency_slots, c.mention_turns, c.mention_counts, name="mixture")(
                associated=associated,
                nearest=(columns[batch["nearest_items"]], batch["nearest_weights"]),
                log_popularity=log_popularity,
                columns=columns[batch["entities"]],
                entity_mask=entity_mask,
                recency=mention_recency,
                mentions=batch["mentions"],
                feelings=feelings,
                last_turn=masked_mean(batch["text_states"].astype(dtype), text_mask & (batch["text_ages"] == 1)),
            )
        if c.repetition != "none":
            if fused.local is None:
                raise ValueError("the prompt of the task conversation has no entities: score items with another task")
            logits += Repetition(c.recency_slots, c.mention_turns, c.mention_counts, name="repetition")(
                columns=columns[batch["entities"]],
                entity_mask=entity_mask,
                recency=mention_recency,
                mentions=batch["mentions"],
                local=fused.local,
                candidates=candidates,
                feelings=feelings,
            )
        if c.two_hop and facts is not None:
            logits += TwoHop(c.recency_slots, 0.0 if mixed else 1.0, name="two_hop")(
                mention_states=fused.prompt[:, : entity_mask.shape[1]],
                entities=batch["entities"],
                entity_mask=entity_mask,
                recency=mention_recency,
                facts=facts,
                item_ids=item_ids,
                feelings=feelings,
            )
        if c.cooccurrence == "mass":
            cooccurring, weights = together()
            logits += MassCooccurrence(c.recency_slots, name="cooccurrence")(
                columns=cooccurring,
                weights=weights,
                recency=mention_recency,
                candidates=candidates,
                feelings=feelings,
            )
        elif c.cooccurrence == "published":
            if emotion_table is None:
                raise ValueError("the head cooccurrence='published' weighs by emotion: give `emotion_table`")
            probabilities = batch["emotion_probs"].astype(dtype)
            logits += PublishedCooccurrence(name="cooccurrence")(
                columns=columns[batch["neighbours"]],
                weights=batch["neighbour_weights"].astype(dtype),
                emotion=jnp.einsum("bel,belm->bem", probabilities, emotion_table[batch["emotions"]]),
                width=fused.tokens.shape[-1],
                candidates=candidates,
            )

        if feelings is not None and facts is not None:
            cooccurring, weights = together()
            logits += Aversion(name="aversion")(
                dislike=jnp.where(entity_mask, dislike(feelings), 0),
                entities=batch["entities"],
                facts=facts,
                item_ids=item_ids,
                columns=cooccurring,
                weights=weights,
            )

        if c.repetition == "gate":
            logits = RepetitionGate(c.mention_turns, c.mention_counts, name="gate")(
                logits=logits,
                columns=columns[batch["entities"]],
                entity_mask=entity_mask,
                mentions=batch["mentions"],
                text_states=batch["text_states"].astype(table.dtype),
                text_mask=text_mask,
                text_ages=batch["text_ages"],
            )

        liking = None
        if c.like_probability and item_odds is not None:
            cooccurring, weights = together()
            liking = LikeProbability(name="like_probability")(
                text_states=batch["text_states"].astype(table.dtype),
                text_mask=text_mask,
                text_ages=batch["text_ages"],
                mentions=batch["mentions"],
                entity_mask=entity_mask,
                item_odds=_odds_without_own(jnp.asarray(item_odds)[item_ids], columns, batch),
                cooccurring=cooccurring,
                weights=weights,
                log_popularity=None if item_prior is None else jnp.asarray(item_prior)[item_ids],
                emotion_totals=batch["emotion_totals"] if self.emotions else None,
                valence=batch.get("valence") if self.emotions else None,
            )
        return Scores(logits, liking)


def _cooccurring(batch: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Ids and weights [B, E, C] of the items that co-occur with each entity, or of its neighbours without these."""
    if "cooccurring_items" in batch:
        return batch["cooccurring_items"], batch["cooccurrence_weights"]
    return batch["neighbours"], batch["neighbour_weights"]


def _odds_without_own(odds: jax.Array, columns: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
    """The candidates' odds [I] without the answers of each row's own dialogue: [B, I], or [1, I] without these."""
    if "own_odds_shift" not in batch:
        return odds[None]
    return odds + scatter_by_entity(columns[batch["rated_items"]], batch["own_odds_shift"], odds.shape[0])
