"""Settings: what cannot be is refused with field, value and remedy; configs are found, read, and survive JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from ecr_jax import config as configs
from ecr_jax.config import (
    BaselineConfig,
    Config,
    ConfigError,
    ConversationConfig,
    CorpusConfig,
    EaseConfig,
    EmbeddingBaselineConfig,
    EmotionConfig,
    EncoderConfig,
    EvaluationConfig,
    FeedbackWeights,
    FusionConfig,
    GraphBaselineConfig,
    HeadsConfig,
    KgsfConfig,
    LanguageModelBaselineConfig,
    PromptConfig,
    RecommendationConfig,
    RecommenderConfig,
    ResponseConfig,
    SasRecConfig,
    TrainConfig,
    presets,
    registry,
    replace,
)

TRAIN = TrainConfig(steps=2)
JSONL = dict(name="jsonl", train="a", valid="b", test="c")
PROMPT = dict(entity_width=8, emotion_width=2)
RECOMMENDER = dict(prompt=PromptConfig(**PROMPT), heads=HeadsConfig())

WRONG = [
    (CorpusConfig, dict(name="films"), "dialogues", 0, "at least 1"),
    (CorpusConfig, dict(name="films"), "film_reviews", -1, "at least 1"),
    (CorpusConfig, JSONL, "train", None, "name the train file of 'jsonl'"),
    (CorpusConfig, JSONL, "test", None, "name the test file of 'jsonl'"),
    (CorpusConfig, {**JSONL, "name": "redial", "movies": "m"}, "movies", None, "name the movie table"),
    (CorpusConfig, {**JSONL, "name": "gorecdial", "movies": "m"}, "movies", None, "name the movie table"),
    (CorpusConfig, {**JSONL, "name": "gorecdial", "movies": "m"}, "graph", "kg", "linked to the Wikidata film table"),
    (CorpusConfig, {**JSONL, "name": "tgredial", "graph": "kg"}, "graph", None, "name the folder of CRSLab's export"),
    (EncoderConfig, {}, "turn_tokens", 2, "at least 3"),
    (EncoderConfig, {}, "entity_tokens", 0, "at least 3"),
    (EmotionConfig, dict(train=TRAIN), "beta", 1.0, "[0, 1)"),
    (EmotionConfig, dict(train=TRAIN), "beta", float("nan"), "[0, 1)"),
    (EmotionConfig, dict(train=TRAIN), "hidden", 0, "at least 1"),
    (EmotionConfig, dict(train=TRAIN), "limit", 0, "at least 1"),
    (FeedbackWeights, {}, "dislike", -0.5, "at least 0"),
    (FeedbackWeights, {}, "like", float("nan"), "at least 0"),
    *(
        (RecommenderConfig, RECOMMENDER, name, 0, "at least 1")
        for name in ("layers", "max_tokens", "max_states", "max_entities", "emotions_per_entity", "neighbours",
                     "cooccurring_items", "facts_per_item")
    ),
    *(
        (PromptConfig, PROMPT, name, 0, "at least 1")
        for name in ("entity_width", "emotion_width", "bases", "recommendation_prefix", "conversation_prefix")
    ),
    (PromptConfig, PROMPT, "cross_attention_exponent", -0.5, "at least 0"),
    (PromptConfig, PROMPT, "prefix_scale", -1.0, "at least 0"),
    (PromptConfig, PROMPT, "dropout", 1.0, "[0, 1)"),
    (PromptConfig, PROMPT, "dropout", -0.1, "[0, 1)"),
    *((HeadsConfig, {}, name, 0, "at least 1") for name in ("recency_slots", "mention_turns", "mention_counts")),
    (HeadsConfig, {}, "cooccurrence", "some", "choose one of none, published, mass"),
    (FusionConfig, dict(train=TRAIN), "valid_dialogues", 0, "at least 1"),
    (RecommendationConfig, dict(train=TRAIN), "loss", "focal(", "focal("),
    (CorpusConfig, dict(name="films"), "valid_share", 1.0, "lies in (0, 1)"),
    (EvaluationConfig, {}, "top_items", 10, "at least 50"),
    (ResponseConfig, dict(train=TRAIN), "max_sentence_words", 3, "at least 4"),
    (RecommendationConfig, dict(train=TRAIN), "valid_dialogues", 0, "at least 1"),
    (ConversationConfig, dict(train=TRAIN), "max_reply", 0, "at least 1"),
    (ResponseConfig, dict(train=TRAIN), "dtype", "float16", "choose one of float32, bfloat16"),
    (ResponseConfig, dict(train=TRAIN), "quantize", "int4", "choose one of None, int8, nf4"),
    (ResponseConfig, dict(train=TRAIN), "remat", "all", "choose one of none, dots, full"),
    (ResponseConfig, dict(train=TRAIN), "triples", -1, "at least 0"),
    (EmbeddingBaselineConfig, {}, "width", 0, "at least 1"),
    (EmbeddingBaselineConfig, {}, "dropout", 1.0, "[0, 1)"),
    (BaselineConfig, {}, "dropout", 1.0, "[0, 1)"),
    (GraphBaselineConfig, {}, "bases", 0, "at least 1"),
    (GraphBaselineConfig, {}, "width", 0, "at least 1"),
    (KgsfConfig, {}, "information", -0.1, "at least 0"),
    (KgsfConfig, {}, "max_words", 0, "at least 1"),
    (SasRecConfig, {}, "layers", 0, "at least 1"),
    (SasRecConfig, {}, "heads", 3, "a divisor of the width 64"),
    (EaseConfig, {}, "strengths", (), "one or more numbers above 0"),
    (EaseConfig, {}, "strengths", (1.0, 0.0), "one or more numbers above 0"),
    (LanguageModelBaselineConfig, {}, "layers", 0, "at least 1"),
    (EvaluationConfig, {}, "resamples", 0, "at least 1"),
    (EvaluationConfig, {}, "auc_batch", 0, "at least 1"),
    (EvaluationConfig, {}, "replies", -1, "at least 0"),
    (HeadsConfig, {}, "repetition", True, "choose one of"),
    (RecommendationConfig, dict(train=TRAIN), "select", "recall@1", "choose one of"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields", "name", "value", "remedy"), WRONG)
def test_wrong_value_is_named(kind, fields, name, value, remedy):
    kind(**fields)  # without the wrong value it is fine
    message = re.escape(f"{kind.__name__}.{name} = {value!r} is not allowed: ") + ".*" + re.escape(remedy)
    with pytest.raises(ConfigError, match=message):
        kind(**{**fields, name: value})


@pytest.mark.parametrize("name", ["", "a b", "../up", "a/b"])
def test_run_name_stays_inside_runs(name):
    with pytest.raises(ConfigError, match="Config.name = .* is not allowed: use letters, digits, - and _"):
        dataclasses.replace(configs.load("demo"), name=name)


def test_weights_may_be_zero_and_ablations_allowed():
    assert FeedbackWeights(0, 0, 0).like == 0
    prompt = PromptConfig(**PROMPT, emotions=False, global_entities=False)
    assert not RecommenderConfig(prompt, HeadsConfig()).prompt.emotions


def test_published_cooccurrence_head_needs_emotions():
    heads, without = HeadsConfig(cooccurrence="published"), PromptConfig(**PROMPT, emotions=False)
    assert RecommenderConfig(PromptConfig(**PROMPT), heads).heads.cooccurrence == "published"
    with pytest.raises(
        ConfigError, match="HeadsConfig.cooccurrence = 'published' is not allowed: it weights by emotion"
    ):
        RecommenderConfig(without, heads)


def test_presets_are_complete_and_differ_where_the_paper_and_its_code_do():
    """ECR 3.2, 4.2; the released code has no masks and directed co-occurrence; the widths are D / 2 and D / 16."""
    paper, code, improved = presets.paper(768), presets.code(768), presets.improved(768)
    for preset in (paper, code, improved):
        assert (preset.prompt.entity_width, preset.prompt.emotion_width) == (384, 48)
    assert (paper.prompt.masked, code.prompt.masked, improved.prompt.masked) == (True, False, True)
    assert (paper.directional_cooccurrence, code.directional_cooccurrence) == (False, True)
    assert paper.prompt.emotion_fusion == "linear" and code.prompt.emotion_fusion == "published"
    assert paper.heads == code.heads == presets.published_heads() != improved.heads


def test_a_field_is_replaced_by_its_path():
    config = configs.load("demo")
    changed = replace(config, "recommendation.train.optim.learning_rate", 0.5)
    assert changed.recommendation.train.optim.learning_rate == changed.value("recommendation.train.optim.learning_rate")
    assert replace(changed, "recommendation", config.recommendation) == config
    assert replace(config.recommender, "prompt.bases", 3).prompt.bases == 3


def test_paths():
    config = configs.load("demo")
    config = dataclasses.replace(config, name="x", prepared=Path("p"), runs=Path("r"))
    assert config.prepared_folder == Path("p/x")
    assert config.stage_folder("emotion") == Path("r/x/emotion")
    corpus = CorpusConfig(**JSONL, data=Path("d"))
    assert corpus.path("train") == Path("d/a") and corpus.path("graph") is None


@pytest.mark.parametrize("name", ["demo", "redial"])
def test_survives_json(name):
    config = configs.load(name)
    written = json.loads(json.dumps(config.as_json()))
    assert configs.from_json(written) == config
    assert configs.from_json({**written, "select": "loss"}, runs=Path("elsewhere")).runs == Path("elsewhere")


def test_wrong_value_in_json_is_named():
    written = configs.load("demo").as_json()
    written["emotion"]["beta"] = 2
    with pytest.raises(ConfigError, match="EmotionConfig.beta = 2"):
        configs.from_json(written)


def test_load_names_paths_and_unknown(tmp_path):
    assert configs.load("demo").name == "demo"
    assert configs.load(str(configs.folder() / "redial.py")).corpus.name == "redial"
    with pytest.raises(ValueError, match=r"no config 'nope': give one of .*demo.*redial.*, or the path of a \.py file"):
        configs.load("nope")
    with pytest.raises(ValueError, match="no config"):
        configs.load(str(tmp_path / "missing.py"))
    own = tmp_path / "own.py"
    own.write_text("config = 3\n")
    with pytest.raises(ValueError, match="must define `config`, a Config"):
        configs.load(str(own))
    for text, message in (
        ("\nimport nothing_of_this_name\n", "own.py:2: ModuleNotFoundError: No module"),
        ("def (\n", "own.py:1: SyntaxError: "),
        ("from ecr_jax.config import TrainConfig\nTrainConfig()\n", "own.py:2: ConfigError: TrainConfig.steps = None"),
    ):
        own.write_text(text)
        with pytest.raises(ValueError, match=message):
            configs.load(str(own))
    with pytest.raises(ValueError, match="no variant '' of the config 'redial': it has all_data, ecr_l, "):
        configs.load("redial:")
    own.write_text("import dataclasses\nfrom ecr_jax.config import load\n"
                   "config = dataclasses.replace(load('demo'), name='own')\n")  # fmt: skip
    assert configs.load(str(own)).name == "own"


def test_every_named_config_loads_under_its_own_name():
    names = [path.stem for path in configs.folder().glob("*.py")]
    assert {"demo", "redial"} <= set(names)
    for name in names:
        assert isinstance(configs.load(name), Config) and configs.load(name).name == name


def test_baselines_of_a_run_are_put_together(tmp_path):
    """Each training changes its own settings in the run's config, whatever those of the others are."""
    config = dataclasses.replace(configs.load("demo"), runs=tmp_path)
    stages = [registry.find(name) for name in ("emotion", "kbrd", "ease")]
    wide = replace(config, "baselines.kbrd.width", 7)
    for stage, trained in zip(
        stages, (config, wide, replace(config, "baselines.ease", EaseConfig((3.0,)))), strict=True
    ):
        config.stage_folder(stage).mkdir(parents=True)
        record = json.dumps(configs.record(trained, stage))
        (config.stage_folder(stage) / "config.json").write_text(record)
        configs.write_run(trained, stage)
    assert configs.read_run(tmp_path / "demo", stages) == replace(wide, "baselines.ease", EaseConfig((3.0,)))
    assert set(configs.record(config, stages[1])["baselines"]) == {"kbrd"}
