"""The experiment context: keys, bounded caches, what another config shares; models that do not fit are refused."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.config import registry
from ecr_jax.data.prepare import PreparedCorpus, prepare
from ecr_jax.data.schema import Split
from ecr_jax.features.language_models import LanguageModels
from ecr_jax.features.text_states import TextEncoder
from ecr_jax.pretrained import language_models
from ecr_jax.runs.caches import BoundedCache
from ecr_jax.runs.context import EmotionLabels, ExperimentContext, InMemoryEmotionLabels, open_experiment
from tests import tiny

WORDS = ["hello", "movie", "film"]


@pytest.fixture
def folders(tmp_path):
    return tiny.write_bert(tmp_path / "bert", WORDS), tiny.write_llama(tmp_path / "llama", WORDS)


def test_movie_slot_is_added(folders):
    encoder, decoder = folders
    model, tokenizer = LanguageModels().get(str(decoder))
    assert tokenizer.movie == model.config.vocab_size - 1 == 7 == tokenizer.vocabulary - 1
    rows = np.asarray(model.params["embed"]["embedding"])
    np.testing.assert_allclose(rows[7], rows[tokenizer.encode(["movie"])[0][0]], rtol=1e-6)
    assert len(TextEncoder(str(encoder), encoder).tokenizer) == 7 and TextEncoder(str(encoder), encoder).width == 16


def test_a_tokenizer_that_does_not_fit_its_model_is_refused(folders):
    for folder in folders:
        tokenizer = language_models.load_tokenizer(folder)
        tokenizer.add_tokens(["strange"])
        tokenizer.save_pretrained(str(folder))
    encoder, decoder = folders
    message = "the tokenizer's token 'strange' has id 7, but the model embeds ids 0 to 6"
    with pytest.raises(ValueError, match=f"bert: {message}"):
        TextEncoder(str(encoder), encoder).model  # noqa: B018
    with pytest.raises(ValueError, match=f"llama: {message}"):
        LanguageModels().get(str(decoder))


def test_language_models_are_loaded_once_and_bounded(folders):
    _, decoder = folders
    models = LanguageModels(limit=2)
    first = models.get(str(decoder))
    assert models.get(str(decoder), None) is first
    models.get(str(decoder), 1)
    assert models.get(str(decoder)) is first
    models.get(str(decoder), dtype="bfloat16")
    models.get(str(decoder), 1)  # one of three was dropped
    assert models.get(str(decoder)) is not first


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """The context of a prepared corpus without trained stages."""
    folder = tmp_path_factory.mktemp("context")
    config = dataclasses.replace(
        configs.load("demo"), name="tiny", corpus=tiny.write_corpus(folder / "data"), prepared=folder / "prepared",
        runs=folder / "runs",
    )  # fmt: skip
    prepare(config, console=Console(quiet=True))
    return dataclasses.replace(open_experiment(config), emotions=InMemoryEmotionLabels({}))


def data_of(key):
    return jax.random.key_data(key).tolist()


def test_keys_follow_from_seeds_and_name(experiment):
    """The experiment's seed, the stage's own and its name each give another key; a baseline's seed counts as well."""
    config = experiment.config
    for stage in ("recommendation", "kbrd"):
        path = f"{registry.find(stage).section}.train.seed"
        seeds = [(seed, own) for seed in (0, 1, 2) for own in (0, 1, 2)]
        keys = []
        for seed, own in seeds:
            changed = experiment.with_config(dataclasses.replace(configs.replace(config, path, own), seed=seed))
            keys.append(tuple(data_of(changed.key(stage))))
        assert len(set(keys)) == len(seeds)
    names = list(registry.specs())
    assert len({tuple(data_of(experiment.key(name))) for name in names}) == len(names)
    assert data_of(experiment.key("fusion")) == data_of(experiment.key(registry.find("fusion")))
    seeded = experiment.with_config(configs.replace(config, "baselines.kbrd.train.seed", 9))
    assert data_of(seeded.key("fusion")) == data_of(experiment.key("fusion"))  # only its own


def test_nothing_can_be_reassigned(experiment):
    with pytest.raises(dataclasses.FrozenInstanceError):
        experiment.config = experiment.config


def test_another_config_shares_what_stays_the_same(experiment, tmp_path):
    config = experiment.config
    other = experiment.with_config(configs.replace(config, "recommendation.train.seed", 3))
    assert isinstance(other, ExperimentContext) and other.config.recommendation.train.seed == 3
    assert experiment.config.recommendation.train.seed == 0
    for part in ("corpus", "encoder", "language_models", "emotions", "cache", "context_cache"):
        assert getattr(other, part) is getattr(experiment, part)
    assert other.dialogues(Split.TRAIN) is experiment.dialogues(Split.TRAIN)
    assert experiment.with_config(configs.replace(config, "encoder.name", "minilm-l12")).encoder is not other.encoder
    smaller = experiment.with_config(configs.replace(config, "recommendation.context_cache_gib", 0.0))
    assert smaller.context_cache is not experiment.context_cache and smaller.context_cache.limit == 0
    with pytest.raises(ValueError, match="run `ecr prepare`"):
        experiment.with_config(dataclasses.replace(config, prepared=tmp_path))


def test_emotion_labels_of_a_linked_stage_are_the_same(experiment):
    """A run whose emotion stage is a link to another's reads the same dialogues; another emotion stage is another's."""
    config = experiment.config
    first = open_experiment(config)
    linked, own = (dataclasses.replace(config, name=name) for name in ("linked", "own"))
    config.stage_folder("emotion").mkdir(parents=True)
    linked.folder.mkdir(parents=True)
    linked.stage_folder("emotion").symlink_to(config.stage_folder("emotion"))
    contexts = [first.with_config(dataclasses.replace(c, base="tiny")) for c in (linked, own)]
    assert contexts[0].emotions is first.emotions and contexts[1].emotions is not first.emotions
    assert isinstance(contexts[1].emotions, EmotionLabels) and contexts[0].corpus is first.corpus
    for context in contexts:
        assert isinstance(context.corpus, PreparedCorpus)
        with pytest.raises(ValueError, match="emotions.parquet is missing; run `ecr train emotion`"):
            context.dialogues(Split.TRAIN)
        with pytest.raises(ValueError, match="params.safetensors is missing; run `ecr train fusion`"):
            context.params("fusion")


def test_recommended(experiment):
    counts = {item: experiment.recommended.count(item) for item in experiment.recommended}
    assert sum(counts.values()) == 12 and counts.keys() <= set(experiment.corpus.graph.items.tolist())


def test_bounded_cache():
    cache = BoundedCache(3)
    for number in range(4):
        assert cache.get_or_compute(number, lambda number=number: number * 10) == number * 10
        cache.get(0)  # used again and again, so it stays
    assert 0 in cache and 1 not in cache and len(cache) == 3 and cache.get(1) is None
    by_size = BoundedCache(10, size=len)
    by_size.put("a", "12345")
    by_size.put("b", "12345")
    by_size.put("a", "123456")  # replaced, and now too much with b
    assert by_size.get("a") == "123456" and "b" not in by_size
    by_size.put("c", "x" * 11)  # alone above the limit
    assert "c" not in by_size and "a" in by_size
