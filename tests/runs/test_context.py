"""What the stages stand on refuses what does not fit together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ecr_jax.pretrained import language_models
from ecr_jax.runs.context import ExperimentContext
from tests import tiny

WORDS = ["hello", "movie", "film"]


def experiment(folder):
    return ExperimentContext(SimpleNamespace(encoder=SimpleNamespace(name=str(folder))))


def add_a_token(folder):
    made = language_models.load_tokenizer(folder)
    made.add_tokens(["strange"])
    made.save_pretrained(str(folder))


def test_a_tokenizer_that_does_not_fit_its_model_is_refused(tmp_path):
    encoder, decoder = tiny.write_bert(tmp_path / "bert", WORDS), tiny.write_llama(tmp_path / "llama", WORDS)
    model, words = experiment(encoder).language_model(str(decoder), None)
    assert words.movie == model.config.vocab_size - 1 == 7
    assert len(experiment(encoder).encoder[1]) == 7
    for folder in (encoder, decoder):
        add_a_token(folder)
    message = "the tokenizer's token 'strange' has id 7, but the model embeds ids 0 to 6"
    with pytest.raises(ValueError, match=f"bert: {message}"):
        experiment(encoder).encoder  # noqa: B018
    with pytest.raises(ValueError, match=f"llama: {message}"):
        experiment(encoder).language_model(str(decoder), None)
