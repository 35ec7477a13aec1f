"""The targets that a protocol chooses."""

from ecr_jax.data.schema import Feedback, Role, Split
from ecr_jax.evaluation.protocol import PROTOCOLS, mention_instances
from ecr_jax.features.dialogues import Dialogue, Utterance
from ecr_jax.features.instances import recommendation_instances

LIKE, DISLIKE = Feedback.LIKE, Feedback.DISLIKE


def dialogues():
    """A recommender opens, gets a reply, names 3 twice and 5, and later 3 again."""
    turns = (
        Utterance(Role.RECOMMENDER, "", "", (2,), ((2, LIKE),)),
        Utterance(Role.SEEKER, "", "", (5,), ((5, LIKE),)),
        Utterance(Role.RECOMMENDER, "", "", (3, 9, 5, 3), ((3, DISLIKE), (5, LIKE), (3, DISLIKE))),
        Utterance(Role.SEEKER, "", ""),
        Utterance(Role.RECOMMENDER, "", "", (3,), ((3, DISLIKE),)),
    )
    return [Dialogue("a", Split.TEST, turns)]


def test_every_mention_is_an_instance():
    instances = [(row.turn, row.targets) for row in mention_instances(dialogues())]
    assert instances == [
        (2, ((3, DISLIKE, False), (5, LIKE, True), (3, DISLIKE, False))),
        (4, ((3, DISLIKE, True),)),
    ]


def test_protocols_differ_in_doubles_only():
    ours, theirs = recommendation_instances(dialogues()), mention_instances(dialogues())
    for one, other in zip(ours, theirs, strict=True):
        assert (one.dialogue, one.turn, set(one.targets)) == (other.dialogue, other.turn, set(other.targets))
    assert [len(r.targets) for r in ours] == [2, 1]
    assert {name: protocol.name for name, protocol in PROTOCOLS.items()} == {n: n for n in ("default", "published")}
