"""What the stages stand on refuses what does not fit together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ecr_jax import pretrained
from ecr_jax.stages.ground import Ground
from tests import tiny

WORDS = ["hello", "movie", "film"]


def ground(folder):
    return Ground(SimpleNamespace(encoder=SimpleNamespace(name=str(folder))))


def add_a_token(folder):
    made = pretrained.load_tokenizer(folder)
    made.add_tokens(["strange"])
    made.save_pretrained(str(folder))


def test_a_tokenizer_that_does_not_fit_its_model_is_refused(tmp_path):
    encoder, decoder = tiny.write_bert(tmp_path / "bert", WORDS), tiny.write_llama(tmp_path / "llama", WORDS)
    model, words = ground(encoder).language_model(str(decoder), None)
    assert words.movie == model.config.vocab_size - 1 == 7
    assert len(ground(encoder).encoder[1]) == 7
    for folder in (encoder, decoder):
        add_a_token(folder)
    message = "the tokenizer's token 'strange' has id 7, but the model embeds ids 0 to 6"
    with pytest.raises(ValueError, match=f"bert: {message}"):
        ground(encoder).encoder  # noqa: B018
    with pytest.raises(ValueError, match=f"llama: {message}"):
        ground(encoder).language_model(str(decoder), None)
