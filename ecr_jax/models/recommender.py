"""Ranks items: the knowledge prompt, a frozen language model's last state behind it, and the scoring heads.

`Recommender` holds the prompt encoder and the heads. A head that the config turns off has no parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph

from ecr_jax.models.heads import Facts, Heads, Scores, SimilarFilms
from ecr_jax.models.hyperparameters import HeadsConfig, PromptConfig
from ecr_jax.models.prompt import EntityTable, Fused, Prefix, PromptEncoder, PromptSizes, Task

LanguageModel = Callable[[Mapping[str, jax.Array], Prefix], jax.Array]
"""A frozen language model: (batch, prefix) -> the state [B, D] of each row's last context token, after its final norm.
Create a flax module outside of the callable, which only calls its `apply`."""


class Recommender(nn.Module):
    """The knowledge prompt and the heads that rank items.

    The graph is encoded once and used three times: `table = entity_table(graph)`, then `rank(table, batch, ...)`, which
    is `fused, prefix = encode_context(table, batch, task)`, a frozen language model that computes `state` from the
    prefix, and `scores(state, table, fused, batch, item_ids)`.

    Attributes:
      prompt: hyperparameters of the prompt encoder, whose parameters are the subtree "encoder".
      sizes: sizes that follow from the graph and the language model.
      heads: which scoring heads there are; their parameters are the subtree "head".

    Reference: ECR 3.2, Eqs. 2-7.

    >>> import numpy as np
    >>> from ecr_jax.models.rgcn import graphs_tuple
    >>> prompt = PromptConfig(entity_width=4, emotion_width=2, emotions=False, global_entities=False)
    >>> sizes = PromptSizes(entities=3, relations=1, width=8, layers=2, kv_heads=1, head_dim=4, token_width=6)
    >>> heads = HeadsConfig(cooccurrence="none", two_hop=False, repetition="none", prior=False, like_probability=False,
    ...                     mixture=False)
    >>> graph = graphs_tuple(np.array([0, 1]), np.array([1, 2]), np.array([0, 0]), nodes=4)  # with the padding entity
    >>> batch = {
    ...     "text_states": jnp.ones((1, 2, 6)),  # the states of two words
    ...     "text_mask": jnp.ones((1, 2), bool),
    ...     "entities": jnp.array([[1]]),
    ...     "entity_mask": jnp.ones((1, 1), bool),
    ... }
    >>> model, items = Recommender(prompt, sizes, heads), jnp.array([0, 2])
    >>> initialise = lambda key: model.init_with_output(key, graph, batch, items)  # no language model: its state is 0
    >>> scores, variables = jax.eval_shape(initialise, jax.random.key(0))  # shapes only; call it for numbers
    >>> scores.logits.shape, sorted(variables["params"])
    ((1, 2), ['encoder', 'head'])
    """

    prompt: PromptConfig
    sizes: PromptSizes
    heads: HeadsConfig

    def setup(self) -> None:
        self.encoder = PromptEncoder(self.prompt, self.sizes)
        self.head = Heads(self.heads, self.sizes.entities, self.prompt.emotions, self.prompt.dropout)
        if self.heads.cooccurrence == "published" and not self.prompt.emotions:
            raise ValueError(
                "cooccurrence='published' weighs by emotion: turn prompt.emotions on, or choose cooccurrence='mass'"
            )

    def entity_table(self, graph: jraph.GraphsTuple, entity_text: jax.Array | None = None) -> EntityTable:
        """E, see `PromptEncoder.entity_table`."""
        return self.encoder.entity_table(graph, entity_text)

    def encode_context(self, table: EntityTable, batch: Mapping[str, jax.Array], task: Task) -> tuple[Fused, Prefix]:
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
        item_odds: jax.Array | None = None,
        similar_films: SimilarFilms | None = None,
    ) -> Scores:
        """Scores candidates.

        Args:
          state: [B, D] the language model's state of the last context token.
          table: E.
          fused: from `encode_context`, of the task recommendation or fusion.
          batch: the arrays that `PromptEncoder.fuse` uses and, for the heads that use them: `mentions` [B, E, 3];
            `own_recommendations` and `own_log_shift` [B, R] (a training dialogue's own share of the prior);
            `rated_items` and `own_odds_shift` [B, F] (its own share of the item odds);
            `cooccurring_items` and `cooccurrence_weights` [B, E, C], without which the neighbours count; `liked_items`,
            `liked_weights`, `disliked_items`, `disliked_weights` [B, E, R]; `nearest_items`, `nearest_weights` [B, Q];
            `valence` [B, E]; `text_ages` [B, S] and `emotion_totals` [B, 9].
          item_ids: int [I] entities to score.
          item_prior: [N + 1] log popularity, or None to leave the prior head out. A constant, not a parameter.
          facts: of every entity, or None to leave the two-hop head and the aversion head out.
          item_odds: [N + 1] log odds of being liked in training, or None to leave the like-probability head out. A
            constant, not a parameter.
          similar_films: of every entity, or None to leave this part of the mixture out.

        Returns:
          The logits and the log odds of being liked of each candidate in each row.
        """
        emotion_table = self.encoder.emotion_table() if self.heads.cooccurrence == "published" else None
        return self.head(
            state=state.astype(table.dtype),
            table=table,
            fused=fused,
            batch=batch,
            item_ids=item_ids,
            item_prior=item_prior,
            facts=facts,
            item_odds=item_odds,
            similar_films=similar_films,
            emotion_table=emotion_table,
        )

    def rank(
        self,
        table: EntityTable,
        batch: Mapping[str, jax.Array],
        item_ids: jax.Array,
        task: Task = "recommendation",
        language_model: LanguageModel | None = None,
        item_prior: jax.Array | None = None,
        facts: Facts | None = None,
        item_odds: jax.Array | None = None,
        similar_films: SimilarFilms | None = None,
    ) -> Scores:
        """From the encoded entities to the candidates' scores.

        Args:
          table: E.
          batch: as for `scores`, and `tokens`, `token_mask` [B, T] for the language model.
          item_ids: int [I] entities to score.
          task: "recommendation" or "fusion" (no learned positions).
          language_model: the frozen model; None leaves it out (its state is zero), to initialise or to ablate.
          item_prior, facts, item_odds, similar_films: see `scores`.
        """
        fused, prefix = self.encode_context(table, batch, task)
        if language_model is None:
            state = jnp.zeros((batch["entities"].shape[0], self.sizes.width), table.dtype)
        else:
            state = language_model(batch, prefix)
        return self.scores(state, table, fused, batch, item_ids, item_prior, facts, item_odds, similar_films)

    def __call__(
        self,
        graph: jraph.GraphsTuple,
        batch: Mapping[str, jax.Array],
        item_ids: jax.Array,
        task: Task = "recommendation",
        language_model: LanguageModel | None = None,
        item_prior: jax.Array | None = None,
        facts: Facts | None = None,
        item_odds: jax.Array | None = None,
        similar_films: SimilarFilms | None = None,
        *,
        entity_text: jax.Array | None = None,
    ) -> Scores:
        """`entity_table` and `rank` in one, from the graph to the scores; initialises the parameters of a task.

        Args:
          graph, entity_text: see `PromptEncoder.entity_table`.
          batch, item_ids, task, language_model, item_prior, facts, item_odds, similar_films: see `rank`.
        """
        table = self.entity_table(graph, entity_text)
        return self.rank(table, batch, item_ids, task, language_model, item_prior, facts, item_odds, similar_films)
