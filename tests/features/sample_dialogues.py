"""Two short dialogues over a graph of N entities, which the tests of this folder turn into contexts and examples."""

from __future__ import annotations

import numpy as np

from ecr_jax.data.schema import Feedback, Role, Split
from ecr_jax.features.dialogues import Dialogue, Utterance, emotion_labelled_mentions, seeker_ratings
from ecr_jax.features.featurizer import (
    ContextFeaturizer,
    ContextLimits,
    Evidence,
    EvidenceLimits,
    prompt_featurizer,
    recommender_featurizer,
)
from ecr_jax.features.nearest_contexts import NearestContexts
from ecr_jax.features.text_states import TextStates
from ecr_jax.features.tokenizer import DialogueTokenizer
from ecr_jax.knowledge.cooccurrence import count_cooccurrence, count_rated_pairs
from tests import tiny

LIKE, DISLIKE, UNSAID = Feedback.LIKE, Feedback.DISLIKE, Feedback.UNSAID
N = 8
ITEMS = np.array([0, 2, 4, 5])


def seeker(text, entities=(), emotions=(), films=()):
    return Utterance(Role.SEEKER, text, text, tuple(entities), tuple(films), tuple(emotions))


def recommender(text, entities=(), films=(), masked=None):
    return Utterance(Role.RECOMMENDER, text, masked or text, tuple(entities), tuple(films))


TURNS = (
    seeker("a b", [0, 1], [(2, 0.7), (4, 0.2)], [(0, LIKE)]),
    recommender("c d e", [2, 3], [(2, DISLIKE)], "<movie> d e"),
    seeker("f", [], [(8, 0.9)]),
    recommender("g h", [0, 4], [(0, LIKE), (4, UNSAID), (0, LIKE)], "<movie> h"),
    seeker("b", [2], []),
)
DIALOGUE = Dialogue("one", Split.TRAIN, TURNS)
OTHER = Dialogue("two", Split.TRAIN, (seeker("a", [0], [(2, 0.6)]), recommender("c", [5]), seeker("f", [], [(2, 1.0)])))
DIALOGUES = [DIALOGUE, OTHER]
LIMITS = ContextLimits(tokens=9, states=7, entities=3, emotions=1, neighbours=2, cooccurring_items=3)
EVIDENCE_LIMITS = EvidenceLimits(rated_items=2, nearest_items=3)


def make_tokenizer() -> DialogueTokenizer:
    return DialogueTokenizer.of(tiny.tokenizer("User: System: plan: recommend films: | a b c d e f g h".split()))


def make_states() -> TextStates:
    """States of width 1, one for each word: their own numbers."""
    units = sorted({turn.text_with_role for dialogue in DIALOGUES for turn in dialogue.turns})
    offsets = np.concatenate([[0], np.cumsum([len(unit.split()) for unit in units])])
    tokens = np.arange(offsets[-1], dtype=np.float16)[:, None]
    return TextStates(tokens, offsets, {unit: i for i, unit in enumerate(units)})


def make_featurizer(tokenizer: DialogueTokenizer) -> ContextFeaturizer:
    mentions = [emotion_labelled_mentions(dialogue.turns) for dialogue in DIALOGUES]
    by_emotion = count_cooccurrence(mentions, N, emotions_per_mention=1)
    together = count_cooccurrence(mentions, N, require_emotion=False).restricted_to(ITEMS)
    ratings = [seeker_ratings(dialogue) for dialogue in DIALOGUES]
    liked, disliked = (count_rated_pairs(ratings, N, rating) for rating in (1, -1))
    nearest = NearestContexts.of(DIALOGUES, ITEMS, count=2, power=1.0)
    prompt = prompt_featurizer(tokenizer, make_states(), by_emotion, together, LIMITS)
    return recommender_featurizer(prompt, Evidence(liked, disliked, nearest), EVIDENCE_LIMITS)
