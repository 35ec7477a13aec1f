"""Text states: the same alone and in a batch, read from the disk later, the latest whole units of a context."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from ecr_jax.features import text_states
from ecr_jax.features.text_states import RecentStates, TextEncoder, TextStates
from tests import tiny

WORDS = "one two three four five six seven eight nine".split()
TEXTS = ["one two", "three", " ".join(WORDS), "one two", "two one four"]


@pytest.fixture(scope="module")
def encoder():
    tokenizer = tiny.tokenizer(WORDS, marks=True)
    return tiny.random_model(tiny.bert(len(tokenizer))), tokenizer


def run(encoder, texts, cache, max_tokens=16, name="tiny/bert"):
    return TextEncoder(name, cache, load=lambda name: encoder).encode(
        texts, max_tokens, "encode", cached=cache is not None
    )


def test_states_are_the_models(encoder, tmp_path):
    states = run(encoder, TEXTS, tmp_path)
    model, tokenizer = encoder
    assert states.index.keys() == set(TEXTS) and states.tokens.dtype == np.float16 and len(states.offsets) == 5
    forward = jax.jit(model.module.apply)
    for text in TEXTS[1:3]:
        ids = np.array([tokenizer(text)["input_ids"]])
        assert ids[0, 0] == 2 and ids[0, -1] == 3  # [CLS] and [SEP]
        alone = forward({"params": model.params}, ids, np.ones(ids.shape, bool)).hidden[0]
        np.testing.assert_allclose(states.latest([text], 16), alone, atol=4e-3)
        np.testing.assert_allclose(states.mean([text])[0], np.mean(alone, axis=0), atol=4e-3)


def test_neither_order_nor_the_other_texts_matter(encoder, tmp_path):
    together, alone = run(encoder, TEXTS, tmp_path), run(encoder, TEXTS[1:2], tmp_path)
    backwards = run(encoder, TEXTS[::-1], None)
    np.testing.assert_allclose(together.latest(["three"], 16), alone.latest(["three"], 16), atol=4e-3)
    for text in TEXTS:
        np.testing.assert_allclose(together.latest([text], 16), backwards.latest([text], 16), atol=4e-3)


def test_second_call_reads_the_disk(encoder, tmp_path, monkeypatch):
    first = run(encoder, TEXTS, tmp_path)
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("tiny--bert-") and sorted(p.name for p in folder.iterdir()) == [
        "offsets.npy", "tokens.npy",
    ]  # fmt: skip
    monkeypatch.setattr(text_states, "_hidden", None)  # computing again would fail
    second = run(encoder, [*TEXTS[::-1], "three"], tmp_path)
    np.testing.assert_array_equal(first.tokens, second.tokens)
    assert first.index == second.index


@pytest.mark.parametrize("change", [dict(texts=[*TEXTS, "six"]), dict(max_tokens=8), dict(name="other")])
def test_another_key_is_computed_again(encoder, tmp_path, change):
    run(encoder, TEXTS, tmp_path)
    run(encoder, change.pop("texts", TEXTS), tmp_path, **change)
    assert len(list(tmp_path.iterdir())) == 2


def test_memory_keeps_nothing_on_disk(encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    states = run(encoder, TEXTS, None)
    assert not isinstance(states.tokens, np.memmap) and not list(tmp_path.iterdir())


def test_long_unit_is_cut_at_its_end(encoder):
    states = run(encoder, [" ".join(WORDS), "one two"], None, max_tokens=4)
    assert [len(states.latest([text], 9)) for text in (" ".join(WORDS), "one two")] == [4, 4]
    same = run(encoder, ["one two"], None)
    np.testing.assert_allclose(states.latest([" ".join(WORDS)], 9), same.latest(["one two"], 9), atol=4e-3)


def test_interrupted_computation_leaves_nothing(encoder, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(text_states, "_hidden", stop)
    with pytest.raises(KeyboardInterrupt):
        run(encoder, TEXTS, tmp_path)
    assert not list(tmp_path.iterdir())


SMALL = TextStates(np.arange(9, dtype=np.float16)[:, None], np.array([0, 2, 5, 9]), {"a": 0, "b": 1, "c": 2})


@pytest.mark.parametrize(
    ("texts", "limit", "rows", "ages"),
    [
        ("abc", 9, [0, 1, 2, 3, 4, 5, 6, 7, 8], [3, 3, 2, 2, 2, 1, 1, 1, 1]),
        ("abc", 8, [2, 3, 4, 5, 6, 7, 8], [2, 2, 2, 1, 1, 1, 1]),  # whole units only
        ("abc", 6, [5, 6, 7, 8], [1, 1, 1, 1]),
        ("abc", 3, [6, 7, 8], [1, 1, 1]),  # the latest alone is too long: its end
        ("aca", 5, [0, 1], [1, 1]),  # "c" does not fit, so the first "a" is not taken either
        ("aa", 4, [0, 1, 0, 1], [2, 2, 1, 1]),
        ("", 4, [], []),
    ],
)
def test_latest(texts, limit, rows, ages):
    actual = SMALL.latest(list(texts), limit)
    assert actual[:, 0].tolist() == rows and actual.shape == (len(rows), 1) and actual.dtype == np.float16
    actual = SMALL.latest_ages(list(texts), limit)
    assert actual.tolist() == ages and actual.dtype == np.int32
    assert SMALL.latest_length(list(texts), limit) == len(rows)


def test_mean():
    assert SMALL.mean(["b", "a"]).tolist() == [[3.0], [0.5]] and SMALL.mean(["b"]).dtype == np.float32


def test_further_texts():
    """A unit that is not known is looked for in the fallback."""
    more = TextStates(np.arange(100, 104, dtype=np.float16)[:, None], np.array([0, 4]), {"d": 0})
    joined = SMALL.with_fallback(more)
    assert joined.rows("d")[:, 0].tolist() == [100, 101, 102, 103]
    assert joined.latest(["b", "d"], 7)[:, 0].tolist() == [2, 3, 4, 100, 101, 102, 103]
    assert joined.latest(["b", "d"], 6)[:, 0].tolist() == [100, 101, 102, 103]
    assert joined.latest(["a", "d"], 2)[:, 0].tolist() == [102, 103]
    assert joined.length("d") == 4 and joined.latest_length(["b", "d"], 6) == 4
    assert joined.mean(["a", "d"])[:, 0].tolist() == [0.5, 101.5]
    with pytest.raises(KeyError, match="nobody"):
        joined.rows("nobody")


def test_recent_texts_are_not_encoded_again():
    asked = []

    def encode(texts):
        asked.append(texts)
        offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
        rows = np.asarray([ord(character) for text in texts for character in text], np.float16).reshape(-1, 1)
        return TextStates(rows, offsets, {text: unit for unit, text in enumerate(texts)})

    recent = RecentStates(encode, most=2)
    for texts in (["ab", "c", "ab"], ["c", "def"], ["def", "ab"], ["ab", "c", "def"], []):
        states = recent(texts)
        assert all(states.rows(text).ravel().tolist() == list(map(ord, text)) for text in texts)
        assert set(states.index) == set(texts)
    assert asked == [["ab", "c"], ["def"], ["ab"], ["c"], []]  # the text that was used least recently was dropped
