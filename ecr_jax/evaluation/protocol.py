"""How targets are chosen, ranked and measured: the default protocol, and that of the published code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ecr_jax.data.schema import Role
from ecr_jax.evaluation.measures import measures, published_measures
from ecr_jax.evaluation.rows import MeasureFunction
from ecr_jax.features.dialogues import Dialogue
from ecr_jax.features.instances import Instance, recommendation_instances


@dataclass(frozen=True)
class Protocol:
    """A way to measure a recommender.

    Attributes:
      name: its name in commands and files.
      instances: dialogues -> the turns that items are ranked for, with their targets.
      ties: how tied items are ranked, see `metrics.ranks`.
      all_entities: whether the scores of a turn are those of all entities, divided by their sum (ranks are always
        among the items).
      measure: what is measured of the prediction rows.
      description: what a report says about it.
    """

    name: str
    instances: Callable[[Sequence[Dialogue]], list[Instance]]
    ties: Literal["mean", "first"]
    all_entities: bool
    measure: MeasureFunction
    description: str


def mention_instances(dialogues: Sequence[Dialogue]) -> list[Instance]:
    """As `recommendation_instances`, but each mention of an item is a target, also a second one in the same turn.

    Reference: the released code's instances, one a movie mention of a recommender turn that has a context.
    """
    instances = []
    for index, dialogue in enumerate(dialogues):
        mentioned: set[int] = set()
        for turn_index, turn in enumerate(dialogue.turns):
            if turn.role == Role.RECOMMENDER and turn.films and turn_index:
                targets = tuple((item, feedback, item in mentioned) for item, feedback in turn.films)
                instances.append(Instance(index, turn_index, targets))
            mentioned.update(turn.entities)
    return instances


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "default",
            recommendation_instances,
            ties="mean",
            all_entities=False,
            measure=measures,
            description="one target for each item that a recommender turn names; scores are over the items; tied items "
            "share the mean of their ranks",
        ),
        Protocol(
            "published",
            mention_instances,
            ties="first",
            all_entities=True,
            measure=published_measures,
            description="one instance for each mention, repeated ones included, in file order; ranks are among the "
            "items, tied items in the order of their ids; scores of ecr are over all entities and the padding entity, "
            "whatever its loss was over, those of the baselines over the items, since they score no other entities. "
            "A turn is encoded once for all its instances and padded to one of two lengths: where padding is attended "
            "to (preset `code`), the released batches of one instance a row give slightly different scores",
        ),
    )
}
