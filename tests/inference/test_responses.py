"""Generating the two responses of a reply: prompts, sentences, and what is stored on disk."""

from __future__ import annotations

import types

import pytest

from ecr_jax.data.schema import Role, Split
from ecr_jax.features.dialogues import Dialogue, Utterance
from ecr_jax.features.instances import Instance
from ecr_jax.files import read_jsonl_rows
from ecr_jax.inference.responses import RecommendationResponder, response_utterance


def responder(folder, batches):
    """A responder whose model answers "say N" to the context N, and notes the contexts of each batch."""

    def generate(contexts):
        batches.append(list(contexts))
        return [f"say {context}" for context in contexts]

    generate.writer = types.SimpleNamespace(generator=types.SimpleNamespace(tokenizer=None))
    contexts = lambda tokenizer, dialogues, instances: [instance.turn for instance in instances]  # noqa: E731
    return RecommendationResponder(lambda: generate, contexts, folder)


def test_responses_of_turns_are_generated_once(tmp_path):
    dialogue = Dialogue("d", Split.TEST, ())
    instances = [Instance(0, turn) for turn in range(1, 4)]
    batches = []
    texts = responder(tmp_path, batches).of_turns(Split.TEST, [dialogue], instances[:2])
    assert texts == {("d", 1): "say 1", ("d", 2): "say 2"}
    more = responder(tmp_path, batches).of_turns(Split.TEST, [dialogue], instances[1:])
    assert more == {("d", 2): "say 2", ("d", 3): "say 3"}
    assert batches == [[1] + [2] * 7, [3] * 8]  # the last context fills up the batch
    rows = read_jsonl_rows(tmp_path / "replies-test.jsonl")
    assert [(row["conversation"], row["turn"], row["text"]) for row in rows] == [
        ("d", turn, f"say {turn}") for turn in (1, 2, 3)
    ]
    responder(tmp_path, batches).of_turns(Split.VALID, [dialogue], instances[:1])
    assert len(batches) == 3  # each split has its own


def test_many_responses_share_one_batch_size(tmp_path):
    instances, batches = [Instance(0, turn) for turn in range(70)], []
    texts = responder(tmp_path, batches).of_turns(Split.TRAIN, [Dialogue("d", Split.TRAIN, ())], instances)
    assert len(texts) == 70 and [len(batch) for batch in batches] == [32, 32, 32]
    assert all(text == f"say {turn}" for (_, turn), text in texts.items())


def test_nothing_is_loaded_for_stored_responses(tmp_path):
    dialogue, instances = Dialogue("d", Split.TEST, ()), [Instance(0, 1)]
    responder(tmp_path, []).of_turns(Split.TEST, [dialogue], instances)
    unloaded = RecommendationResponder(lambda: pytest.fail("loaded"), lambda *_: pytest.fail("featurised"), tmp_path)
    assert unloaded.of_turns(Split.TEST, [dialogue], instances) == {("d", 1): "say 1"}


def test_a_response_without_a_slot_is_an_empty_turn():
    assert response_utterance("try <movie> .") == Utterance(Role.RECOMMENDER, "try <movie> .", "try <movie> .")
    assert response_utterance("hello") == Utterance(Role.RECOMMENDER, "", "")
