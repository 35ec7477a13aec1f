"""How targets are chosen, ranked and measured: our default, and what the published code does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ecr_jax.data.schema import Role
from ecr_jax.evaluation import ranking
from ecr_jax.evaluation.catalogue import Catalogue
from ecr_jax.evaluation.predictions import Prediction
from ecr_jax.features.examples import Dialogue, Row, recommendation_rows


@dataclass(frozen=True)
class Protocol:
    """A way to measure a recommender.

    Attributes:
      name: what commands and files call it.
      rows: dialogues -> the turns that are ranked for, with their targets.
      ties: how tied items rank, see `metrics.ranks`.
      all_entities: whether a target's score is its probability among all entities, without the odds of its being liked
        (ranks are among the items always).
      measure: what is measured of the prediction rows.
      told: what a report says of it.
    """

    name: str
    rows: Callable[[Sequence[Dialogue]], list[Row]]
    ties: Literal["mean", "first"]
    all_entities: bool
    measure: Callable[[Sequence[Prediction], Catalogue | None, int], ranking.Measures]
    told: str


def mention_rows(spoken: Sequence[Dialogue]) -> list[Row]:
    """As `recommendation_rows`, but each mention of an item is a target: an item named twice in a turn counts twice.

    Reference: the released code's instances, one a movie mention of a recommender turn that something precedes.
    """
    rows = []
    for index, dialogue in enumerate(spoken):
        before: set[int] = set()
        for turn_index, turn in enumerate(dialogue.turns):
            if turn.role == Role.RECOMMENDER and turn.films and turn_index:
                mentions = tuple((item, feedback, item in before) for item, feedback in turn.films)
                rows.append(Row(index, turn_index, mentions))
            before.update(turn.entities)
    return rows


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "default",
            recommendation_rows,
            ties="mean",
            all_entities=False,
            measure=ranking.measures,
            told="one target for each item that a recommender turn names; scores over the items; ties share places",
        ),
        Protocol(
            "published",
            mention_rows,
            ties="first",
            all_entities=True,
            measure=ranking.published_measures,
            told="one instance a mention, doubles kept, in file order; ranks among the items, ties in the order of "
            "their ids; ecr's scores are over all entities and the padding entity, whether its loss was or not, the "
            "baselines' over the items, since they give nothing to other entities. A turn is read once for all its "
            "instances and padded to one of two lengths: where padding is attended to (fidelity `code`), the released "
            "batches of one instance a row give slightly other scores",
        ),
    )
}
