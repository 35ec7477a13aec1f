"""What of a language model is trained: an adapter, new or begun with another, the whole model, or nothing."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ecr_jax.config import TrainConfig
from ecr_jax.data.schema import Split
from ecr_jax.inference.writing import EmotionalRequest, WriteRequest
from ecr_jax.models.hyperparameters import LoraConfig
from ecr_jax.models.lm.gpt2 import Gpt2Config
from ecr_jax.models.lm.language_model import logits
from ecr_jax.pretrained import starting_adapters
from ecr_jax.pretrained.language_models import save
from ecr_jax.pretrained.starting_adapters import StartingAdapter
from ecr_jax.runs.context import open_experiment
from ecr_jax.stages import conversation, response, train, tuning
from ecr_jax.training.evaluation import language_model_loss
from tests import tiny

LLAMA = tiny.random_model(tiny.llama(12))
GPT2 = tiny.random_model(Gpt2Config(12, 16, 1, heads=2, hidden=24, positions=64))
CONFIG = LoraConfig(rank=2)
KEY = jax.random.key(0)
TOKENS = np.arange(1, 9).reshape(1, 8)
BATCH = {"tokens": TOKENS, "token_mask": np.ones((1, 8), bool), "loss_mask": np.arange(8)[None] > 3}


def scores(model, variables):
    hidden = model.module.apply(variables, TOKENS, np.ones((1, 8), bool)).hidden
    return np.asarray(logits(variables["params"], hidden))


@pytest.mark.slow
@pytest.mark.parametrize("model", [LLAMA, GPT2], ids=["llama", "gpt2"])
@pytest.mark.parametrize("tune", ["adapter", "model", "nothing"])
def test_training_begins_with_the_base(model, tune):
    params = tuning.initial(KEY, model, tune, CONFIG)
    assert set(params) == {"adapter": {"adapter"}, "model": {"language_model"}, "nothing": set()}[tune]
    frozen = {} if tune == "model" else {"language_model": model.params}
    variables = tuning.variables(params, frozen, CONFIG)
    np.testing.assert_allclose(scores(model, variables), scores(model, {"params": model.params}), rtol=1e-5)
    apart = tuning.variables(params, frozen, CONFIG, for_inference=True)
    assert "layers_0" in apart["params"]
    np.testing.assert_allclose(scores(model, apart), scores(model, variables), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_whole_gpt2_learns():
    """DialoGPT-type tuning: every parameter but unused positions and words moves, and the loss falls."""
    params = tuning.initial(KEY, GPT2, "model", CONFIG)

    def loss(params):
        total, count, _ = language_model_loss(GPT2.module, tuning.variables(params, {}, CONFIG), BATCH, None)
        return total / count

    step = jax.jit(jax.value_and_grad(loss))
    optimizer = optax.adam(1e-2)
    state, losses = optimizer.init(params), []
    begun = params
    for _ in range(20):
        value, gradient = step(params)
        updates, state = optimizer.update(gradient, state)
        params, losses = optax.apply_updates(params, updates), [*losses, float(value)]
    assert losses[-1] < losses[0] / 2
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), begun, params)
    assert all(jax.tree.leaves(moved))


def test_rows_of_added_tokens():
    rows = jnp.full((1, 16), 0.25)
    variables = tuning.variables({"movie": {"rows": rows}}, {"language_model": LLAMA.params}, CONFIG)
    table, before = variables["params"]["embed"]["embedding"], LLAMA.params["embed"]["embedding"]
    assert (table[-1:] == rows).all() and (table[:-1] == before[:-1]).all()


def test_a_starting_adapter_takes_the_place_of_a_new_one(tmp_path):
    trained = jax.tree.map(lambda x: np.asarray(x) + 0.5, tuning.initial(KEY, LLAMA, "adapter", CONFIG))
    made = {**trained, "movie": {"rows": np.ones((1, 16), np.float32)}}
    starting_adapters.write(tmp_path / "a", "base", {"response": StartingAdapter(made, CONFIG)}, {}, dtype="float32")
    new = tuning.initial(jax.random.key(1), LLAMA, "adapter", CONFIG) | {"encoder": {"x": jnp.zeros(2)}}
    begun = tuning.begun_with(new, str(tmp_path / "a"), "response", "base", CONFIG)
    assert set(begun) == {"adapter", "encoder"}  # what the stage does not train is left behind
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), begun["adapter"], trained["adapter"])))
    assert tuning.begun_with(new, None, "response", "base", CONFIG) is new
    deeper = tiny.random_model(tiny.llama(12, layers=2))
    with pytest.raises(ValueError, match="does not fit the language model of 'response'"):
        tuning.begun_with(
            tuning.initial(KEY, deeper, "adapter", CONFIG), str(tmp_path / "a"), "response", "base", CONFIG
        )


def request():
    return EmotionalRequest("Thief (1981)", (), (("director", "Michael Mann"),), "maybe Thief (1981) is for you .")


@pytest.mark.slow
def test_dialogpt_is_tuned_as_a_whole_by_both_stages(run, tmp_path):
    words = tiny.tokenizer(tiny.WORDS)
    folder = tmp_path / "gpt2"
    save(folder, tiny.random_model(Gpt2Config(len(words), 16, 1, heads=2, hidden=24, positions=512)), words)
    few = TrainConfig(steps=2, batch_size=4)
    config = dataclasses.replace(
        run,
        runs=tmp_path / "runs",
        language_model=str(folder),
        conversation=dataclasses.replace(
            run.conversation, tune="model", prefix=False, classify_emotions=False, train=few
        ),
        response=dataclasses.replace(
            run.response, tune="model", quantize=None, classify_emotions=False, language_model=str(folder), train=few
        ),
    )
    for stage in ("conversation", "response"):
        train(config, stage)
    experiment = open_experiment(config)
    assert set(experiment.params("conversation")) == set(experiment.params("response")) == {"language_model"}
    ((instance, plan), *_) = conversation.planned_instances(experiment, Split.VALID)
    writer = conversation.writer(experiment)
    context = experiment.corpus.split(Split.VALID)[instance.dialogue].turns[: instance.turn]
    tokens = writer.generator.tokenizer.encode_turns([(turn.role, turn.text) for turn in context])
    (texts,) = writer.write([WriteRequest({"tokens": np.concatenate(tokens)[-32:]}, plan)], 2)
    assert len(texts) == 2
    assert len(response.writer(experiment).write([request()], 3)[0]) == 3
