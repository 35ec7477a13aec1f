"""Every setting of an experiment as frozen dataclasses; a wrong value is refused with its field and the remedy.

`configs/` holds one file an experiment. A field is overridden on the command line by its path, for example
`--recommendation.train.batch-size 32`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ecr_jax.losses import expression
from ecr_jax.models.lm.language_model import Remat
from ecr_jax.models.lm.lora import LoraConfig
from ecr_jax.models.lm.quantized import Format
from ecr_jax.training.loop import TrainConfig
from ecr_jax.training.optim import OptimConfig

__all__ = [
    "Config",
    "ConfigError",
    "ConversationConfig",
    "CorpusConfig",
    "EaseConfig",
    "EmbeddingBaselineConfig",
    "EmotionConfig",
    "EncoderConfig",
    "EvaluationConfig",
    "FeedbackWeights",
    "FusionConfig",
    "GraphBaselineConfig",
    "HeadOptions",
    "KgsfConfig",
    "LanguageModelBaselineConfig",
    "LoraConfig",
    "OptimConfig",
    "PromptOptions",
    "RecommendationConfig",
    "RecommenderConfig",
    "ResponseConfig",
    "BaselineConfig",
    "BaselinesConfig",
    "SasRecConfig",
    "TrainConfig",
    "load",
]


class ConfigError(ValueError):
    """A setting that cannot be: names the field, the value and the remedy."""

    def __init__(self, where: object, name: str, remedy: str):
        value = getattr(where, name)
        super().__init__(f"{type(where).__name__}.{name} = {value!r} cannot be: {remedy}")


def _require(where: object, name: str, holds: bool, remedy: str) -> None:
    if not holds:
        raise ConfigError(where, name, remedy)


def _at_least(where: object, least: float, *names: str) -> None:
    for name in names:
        value = getattr(where, name)
        _require(where, name, value is None or value >= least, f"give a number of at least {least}")


@dataclass(frozen=True)
class CorpusConfig:
    """What is read. Paths are relative to `data`.

    Attributes:
      name: which reader; `films` is the built-in corpus and needs no files.
      data: folder of the corpus files.
      train, valid, test: conversation files of the three splits; without `valid`, a tenth of `train` chosen by its ids.
      graph: folder of a UniCRS export of DBpedia or a Turtle file; None takes the Wikidata film table.
      movies: movie table that maps the corpus's film ids to URIs.
      reviews: top-rated reviews to tune the response generator on.
      goemotions: folder of GoEmotions to train the emotion classifier on; None takes the corpus's own labels.
      skip_bad: leave malformed lines out (they are written to rejected.jsonl) where they would end the run.
      seed, dialogues, film_reviews: what the built-in corpus is generated from, and how much.
    """

    name: Literal["films", "redial", "inspired", "gorecdial", "jsonl"]
    data: Path = Path("data")
    train: str | None = None
    valid: str | None = None
    test: str | None = None
    graph: str | None = None
    movies: str | None = None
    reviews: str | None = None
    goemotions: str | None = None
    skip_bad: bool = False
    seed: int = 0
    dialogues: int = 1000
    film_reviews: int = 1800

    def __post_init__(self) -> None:
        _at_least(self, 1, "dialogues", "film_reviews")
        if self.name != "films":
            for split in ("train", "test"):
                _require(self, split, getattr(self, split) is not None, f"name the {split} file of {self.name!r}")
        if self.name in ("redial", "gorecdial"):
            _require(self, "movies", self.movies is not None, "name the movie table that links its film ids")

    def path(self, name: str) -> Path | None:
        """Where the field `name` points, None where it is not set."""
        value = getattr(self, name)
        return None if value is None else self.data / value


@dataclass(frozen=True)
class EncoderConfig:
    """The frozen text encoder, a name for `ecr_jax.pretrained.hub` and the longest turn and entity text in tokens."""

    name: str = "minilm-l6"
    turn_tokens: int = 64
    entity_tokens: int = 32

    def __post_init__(self) -> None:
        _at_least(self, 3, "turn_tokens", "entity_tokens")
        for name in ("turn_tokens", "entity_tokens"):
            _require(self, name, getattr(self, name) <= 512, "the text encoders read at most 512 tokens")


@dataclass(frozen=True)
class EmotionConfig:
    """The emotion classifier: labels above `beta` are kept (ECR 4.1.1).

    Attributes:
      hidden: width of the hidden layer over the pooled states.
      beta: threshold on a label's probability, the most probable label is always kept.
      limit: most training utterances taken from GoEmotions, None for all.
      train: how it is trained.
    """

    train: TrainConfig
    hidden: int = 256
    beta: float = 0.1
    limit: int | None = None

    def __post_init__(self) -> None:
        _at_least(self, 1, "hidden", "limit")
        _require(self, "beta", 0 <= self.beta < 1, "a probability threshold lies in [0, 1); the paper takes 0.1")


@dataclass(frozen=True)
class FeedbackWeights:
    """Weights of the cross-entropy by the seeker's answer (Eq. 7; paper 5.4: 2, 1, 0.5)."""

    like: float = 2.0
    dislike: float = 1.0
    unsaid: float = 0.5

    def __post_init__(self) -> None:
        _at_least(self, 0.0, "like", "dislike", "unsaid")


@dataclass(frozen=True)
class PromptOptions:
    """The knowledge prompt: fields of `models.prompt.PromptConfig`, which says what they mean.

    Attributes:
      entity_width, emotion_width: widths of the graph convolution and of a fused emotion; None: D / 2 and D / 16.
      bases: basis matrices of the graph convolution.
      recommendation_prefix, conversation_prefix: learned positions before a task's prompt.
      emotions, global_entities: False leaves them out (the paper's ablations).
      masked, cross_exponent, emotion_table, emotion_fusion, node_init, normalise, prefix_scale: None: as the preset.
      dropout: rate in the prompt encoder and the heads; None: as the preset.
    """

    entity_width: int | None = None
    emotion_width: int | None = None
    bases: int = 8
    recommendation_prefix: int = 10
    conversation_prefix: int = 20
    emotions: bool = True
    global_entities: bool = True
    masked: bool | None = None
    cross_exponent: float | None = None
    emotion_table: Literal["tower", "direct"] | None = None
    emotion_fusion: Literal["published", "linear", "residual"] | None = None
    node_init: Literal["glorot", "unit"] | None = None
    normalise: bool | None = None
    prefix_scale: float | None = None
    dropout: float | None = None

    def __post_init__(self) -> None:
        _at_least(self, 1, "entity_width", "emotion_width", "bases", "recommendation_prefix", "conversation_prefix")
        _at_least(self, 0.0, "cross_exponent", "prefix_scale")
        _require(self, "dropout", self.dropout is None or 0 <= self.dropout < 1, "a rate lies in [0, 1)")


@dataclass(frozen=True)
class HeadOptions:
    """How items are scored: the fields of `models.recommender.HeadConfig`; None: as the preset."""

    query: Literal["state", "pooled"] | None = None
    copy: Literal["none", "published", "mass"] | None = None
    walk: bool | None = None
    mentions: bool | None = None
    prior: bool | None = None
    liking: bool | None = None


FIDELITY: dict[str, dict[str, Any]] = {
    "code": dict(prefix_visibility="all", entity_text=False, directional=True),
    "paper": dict(prefix_visibility="all", entity_text=False, directional=False),
    "improved": dict(prefix_visibility="last", entity_text=True, directional=False),
}
"""What each preset says of the fields of `RecommenderConfig`; of its prompt and heads: `FIDELITY` of their modules."""


@dataclass(frozen=True)
class RecommenderConfig:
    """What the recommender is made of and how much it reads.

    Attributes:
      language_model: name for `ecr_jax.pretrained.hub` of the frozen language model.
      layers: how many of its lowest layers are used, None for all.
      fidelity: `improved`, or `paper` or `code` to do what the text or the published code does. A field that is None,
        here, in `prompt` or in `heads`, takes what this preset says.
      prompt: the knowledge prompt.
      heads: how items are scored.
      prefix_visibility: "all" tokens of the context see the prefix, as published, or only the "last" one, whose state is the query:
        then nothing before it is differentiated.
      entity_text: adds what the text encoder reads in an entity's description to its node.
      directional: co-occurrence by emotion is counted from the earlier entity to the later one, and of an entity named
        again with itself, as released; or both ways between different entities.
      max_tokens, max_states, max_entities: most context tokens, text-encoder states and entities.
      emotions: most emotions of an entity, in the prompt and for the co-occurrence (n_f = 3).
      neighbours: most global entities of an entity.
      cooccurring_items: most items of an entity that the copy head "mass" reads.
    """

    language_model: str = "smollm2-135m-instruct"
    layers: int | None = None
    fidelity: Literal["improved", "paper", "code"] = "improved"
    prompt: PromptOptions = PromptOptions()
    heads: HeadOptions = HeadOptions()
    prefix_visibility: Literal["all", "last"] | None = None
    entity_text: bool | None = None
    directional: bool | None = None
    max_tokens: int = 128
    max_states: int = 128
    max_entities: int = 16
    emotions: int = 3
    neighbours: int = 16
    cooccurring_items: int = 128

    def __post_init__(self) -> None:
        _at_least(
            self, 1, "layers", "max_tokens", "max_states", "max_entities", "emotions", "neighbours", "cooccurring_items"
        )
        if self.heads.copy == "published" and not self.prompt.emotions:
            remedy = "it weighs by emotion: choose 'mass', or turn recommender.prompt.emotions on"
            raise ConfigError(self.heads, "copy", remedy)

    def chosen(self, name: str) -> Any:
        """The field `prefix_visibility`, `entity_text` or `directional`: its value, or where it is None the preset's."""
        value = getattr(self, name)
        return FIDELITY[self.fidelity][name] if value is None else value


@dataclass(frozen=True)
class FusionConfig:
    """Pre-training of the knowledge prompt on the entities of the next turn.

    Attributes:
      train: how it is trained.
      reads_turn: the turn itself is read after the context, as the released code does, and not only what was before.
      valid_dialogues: most validation dialogues that selection looks at, None for all.
    """

    train: TrainConfig
    reads_turn: bool = False
    valid_dialogues: int | None = None

    def __post_init__(self) -> None:
        _at_least(self, 1, "valid_dialogues")


@dataclass(frozen=True)
class RecommendationConfig:
    """Training on recommended items.

    Attributes:
      train: how it is trained.
      loss: a ranking loss by name, with options or as a sum: see `ecr_jax.losses.expression`.
      candidates: what the loss scores: "items", what can be recommended, or all "entities", as released. What is
        ranked afterwards is the items in either case.
      weights: of the seeker's answers.
      use_resp: the reply that the stage `conversation` gives, u^r with `<movie>` slots, is read after the context (Eqs.
        2 and 6), in training as afterwards. The published commands leave it out.
      valid_dialogues: most validation dialogues that selection looks at, None for all.
    """

    train: TrainConfig
    loss: str = "feedback_cross_entropy"
    candidates: Literal["items", "entities"] = "items"
    weights: FeedbackWeights = FeedbackWeights()
    use_resp: bool = False
    valid_dialogues: int | None = None

    def __post_init__(self) -> None:
        _at_least(self, 1, "valid_dialogues")
        try:
            expression.check(self.loss)
        except ValueError as error:
            raise ConfigError(self, "loss", str(error)) from error


@dataclass(frozen=True)
class ConversationConfig:
    """The recommendation response u^r: a prompted language model with `<movie>` slots (Eq. 1).

    Attributes:
      train: how it is trained.
      language_model: name for `ecr_jax.pretrained.hub`.
      layers: how many of its lowest layers are used, None for all.
      adapted: whether a LoRA adapter is trained with the prompt; without, the prompt alone is, as published.
      adapter: the adapter's settings.
      max_reply: longest reply in tokens.
      valid_examples: most validation examples that selection looks at.
    """

    train: TrainConfig
    language_model: str = "smollm2-135m-instruct"
    layers: int | None = None
    adapted: bool = True
    adapter: LoraConfig = LoraConfig()
    max_reply: int = 64
    valid_examples: int = 128

    def __post_init__(self) -> None:
        _at_least(self, 1, "layers", "max_reply", "valid_examples")


@dataclass(frozen=True)
class ResponseConfig:
    """The emotional response u^e: a language model tuned on reviews with LoRA (Eqs. 8-9).

    Attributes:
      train: how it is trained.
      language_model: name for `ecr_jax.pretrained.hub`.
      adapter: the adapter's settings.
      dtype: of the frozen parameters and of the computation; the adapter is float32.
      quantize: the frozen kernels in 8 or 4 bits, for models that do not fit otherwise; None keeps them as `dtype`.
      remat: what the backward pass computes again, to save memory: nothing, all but matrix products, or whole layers.
      max_prompt, max_review: most tokens of the prompt and of the review.
      entities, triples: most review entities and triples in a prompt (paper: 4 and 2).
      valid_examples: most validation reviews that selection looks at.
    """

    train: TrainConfig
    language_model: str = "smollm2-135m-instruct"
    adapter: LoraConfig = LoraConfig()
    dtype: Literal["float32", "bfloat16"] = "float32"
    quantize: Format | None = None
    remat: Remat = "dots"
    max_prompt: int = 96
    max_review: int = 96
    entities: int = 4
    triples: int = 2
    valid_examples: int = 128

    def __post_init__(self) -> None:
        choices = {"dtype": ("float32", "bfloat16"), "quantize": (None, *get_args(Format)), "remat": get_args(Remat)}
        for name, known in choices.items():
            _require(self, name, getattr(self, name) in known, f"choose one of {', '.join(map(str, known))}")
        _at_least(self, 1, "max_prompt", "max_review", "valid_examples")
        _at_least(self, 0, "entities", "triples")


@dataclass(frozen=True)
class EvaluationConfig:
    """What the report measures: bootstrap resamples, replies to generate, replies to show, the batch of the AUC."""

    resamples: int = 1000
    replies: int = 64
    shown: int = 3
    auc_batch: int = 32

    def __post_init__(self) -> None:
        _at_least(self, 1, "resamples", "auc_batch")
        _at_least(self, 0, "replies", "shown")


@dataclass(frozen=True)
class BaselineConfig:
    """A model of `ecr_jax.models.baselines`. `train`: how it is trained; `dropout`: rate, where the model says."""

    train: TrainConfig = TrainConfig(epochs=10, batch_size=256, optim=OptimConfig(learning_rate=3e-3))
    dropout: float = 0.3

    def __post_init__(self) -> None:
        _require(self, "dropout", 0 <= self.dropout < 1, "a rate lies in [0, 1)")


@dataclass(frozen=True)
class EmbeddingBaselineConfig(BaselineConfig):
    """A baseline that learns embeddings of what is mentioned. `width`: theirs, and of what is made of them."""

    width: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 1, "width")


@dataclass(frozen=True)
class GraphBaselineConfig(EmbeddingBaselineConfig):
    """A baseline that reads the knowledge graph. `bases`: basis matrices of its convolution."""

    bases: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 1, "bases")


@dataclass(frozen=True)
class KgsfConfig(GraphBaselineConfig):
    """KGSF.

    Attributes:
      pretraining: how the mutual information of words and entities is trained, before the ranking is.
      information: weight of the mutual information in the loss.
      max_words: most distinct words of a context, the latest are kept.
    """

    pretraining: TrainConfig = TrainConfig(epochs=3, batch_size=256, optim=OptimConfig(learning_rate=3e-3))
    information: float = 0.025
    max_words: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 0.0, "information")
        _at_least(self, 1, "max_words")


@dataclass(frozen=True)
class SasRecConfig(EmbeddingBaselineConfig):
    """SASRec. `layers`: its blocks; `heads`: of each, they divide the width."""

    layers: int = 2
    heads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 1, "layers", "heads")
        _require(self, "heads", self.width % self.heads == 0, f"choose a divisor of the width {self.width}")


@dataclass(frozen=True)
class EaseConfig:
    """EASE. `strengths`: the regularisers to choose from on validation (Steck's lambda)."""

    strengths: tuple[float, ...] = (50.0, 100.0, 200.0, 500.0, 1000.0)

    def __post_init__(self) -> None:
        good = len(self.strengths) > 0 and all(strength > 0 for strength in self.strengths)
        _require(self, "strengths", good, "give one or more numbers above 0")


@dataclass(frozen=True)
class LanguageModelBaselineConfig(BaselineConfig):
    """A frozen language model's last state. `layers`: how many of its lowest layers are used, None for all."""

    layers: int | None = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(self, 1, "layers")


@dataclass(frozen=True)
class BaselinesConfig:
    """The baselines by name; `ecr baseline NAME` trains one."""

    autorec: EmbeddingBaselineConfig = EmbeddingBaselineConfig()
    ease: EaseConfig = EaseConfig()
    kbrd: GraphBaselineConfig = GraphBaselineConfig()
    kgsf: KgsfConfig = KgsfConfig()
    language_model: LanguageModelBaselineConfig = LanguageModelBaselineConfig()
    sasrec: SasRecConfig = SasRecConfig()
    text_encoder: BaselineConfig = BaselineConfig()


_RECOMMENDER = ("corpus", "encoder", "recommender", "seed")
_FOLLOWS_FROM = {
    "emotion": ("corpus", "encoder", "seed", "recommender.fidelity", "recommender.emotions", "recommender.directional"),
    "fusion": _RECOMMENDER,
    "conversation": _RECOMMENDER,
    "recommendation": _RECOMMENDER,
    "response": ("corpus", "seed"),
    "baselines": (
        *("corpus", "encoder", "seed", "recommender.language_model"),
        *(f"recommender.max_{what}" for what in ("tokens", "states", "entities")),
    ),
}
"""What a stage's outcome follows from, beside its own section and the stages before it."""

_PARTS = ("recommender", "baselines")
"""Sections of which a stage may record a part."""

PLACE = ("name", "base", "prepared")
"""What says where a run and its corpus are, and changes nothing in them."""


@dataclass(frozen=True)
class Config:
    """An experiment.

    Attributes:
      name: the run's folder under `runs`.
      base: name of the experiment whose prepared corpus it reads, and whose stages it takes where they are the same: a
        stage with the same settings that rests on the same.
      seed: the root of every random choice.
    """

    name: str
    corpus: CorpusConfig
    emotion: EmotionConfig
    fusion: FusionConfig
    conversation: ConversationConfig
    recommendation: RecommendationConfig
    response: ResponseConfig
    encoder: EncoderConfig = EncoderConfig()
    recommender: RecommenderConfig = field(default_factory=RecommenderConfig)
    baselines: BaselinesConfig = BaselinesConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    base: str | None = None
    prepared: Path = Path("prepared")
    runs: Path = Path("runs")
    seed: int = 0

    def __post_init__(self) -> None:
        models = {self.recommender.language_model, self.conversation.language_model}
        if len(models) > 1:
            raise ConfigError(
                self.conversation, "language_model", "the recommender reads the same tokens: name one model"
            )
        for name in ("name", "base"):
            value = getattr(self, name)
            good = value is None or value.replace("-", "").replace("_", "").isalnum()
            _require(self, name, good, "use letters, digits, - and _")
        _require(self, "base", self.base != self.name, "it is the run itself; give the run another name")

    @property
    def prepared_folder(self) -> Path:
        """What `ecr prepare` writes."""
        return self.prepared / (self.base or self.name)

    def stage_folder(self, stage: str) -> Path:
        """What `ecr train STAGE` writes; the stage of a baseline is `baselines/NAME`."""
        return self.runs / self.name / stage

    def recorded(self, stage: str) -> dict[str, Any]:
        """What a stage's folder keeps of the config: what its outcome follows from, and where it is."""
        made, room = self.as_json(), stage.partition("/")[0]
        kept: dict[str, Any] = {}
        for path in (*PLACE, *_FOLLOWS_FROM[room], stage.replace("/", ".")):
            section, _, name = path.partition(".")
            if name:
                kept.setdefault(section, {})[name] = made[section][name]
            else:
                kept[section] = made[section]
        return kept

    def as_json(self) -> dict[str, Any]:
        """Plain values, for manifests and run folders."""
        return json.loads(json.dumps(dataclasses.asdict(self), default=str))


def read_recorded(run: Path, stages: Iterable[str], otherwise: Config | None = None) -> Config:
    """The config of a run, put together from what its stages' folders keep.

    Args:
      run: its folder.
      stages: those that are read.
      otherwise: what the others are taken from.

    Raises:
      ValueError: a stage is missing there, or two do not fit together.
    """
    run, value = run.resolve(), {}
    rest = {} if otherwise is None else otherwise.as_json()
    for stage in stages:
        path = run / stage / "config.json"
        if not path.is_file():
            raise ValueError(f"{run} has no trained stage {stage!r}; run `ecr train {stage}` with its config first")
        kept = json.loads(path.read_text(encoding="utf-8"))
        for name in ("inputs", "corpus", "encoder", "recommender", "seed"):
            if name in value and name in kept and not _agree(value[name], kept[name], name in _PARTS):
                raise ValueError(f"{run}: {stage!r} has another {name!r} than the stages before it; train it again")
        value |= kept | {name: value.get(name, {}) | kept.get(name, {}) for name in _PARTS}
    home = value.get("base") or value["name"]  # a linked stage has the name of its run, and the same corpus
    value |= {"name": run.name, "base": None if home == run.name else home}
    value |= {name: rest.get(name, {}) | value[name] for name in _PARTS}
    return from_json(rest | value, runs=run.parent)


def _agree(one: Any, other: Any, parts: bool) -> bool:
    """Whether two records of a section are the same, or as parts of it have the same in what both have."""
    return one == other if not parts else all(one[name] == other[name] for name in one.keys() & other.keys())


def from_json(value: dict[str, Any], **changes: Any) -> Config:
    """The config that `Config.as_json` wrote; `changes` replace fields. Keys that are no fields are passed over."""
    return dataclasses.replace(_build(Config, value), **changes)


def _build(kind: type, value: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(kind)
    fields = {f.name: value[f.name] for f in dataclasses.fields(kind) if f.name in value}
    for name, given in fields.items():
        if dataclasses.is_dataclass(hints[name]):
            fields[name] = _build(hints[name], given)
        elif hints[name] is Path:
            fields[name] = Path(given)
        elif isinstance(given, list):
            fields[name] = tuple(tuple(part) if isinstance(part, list) else part for part in given)
    return kind(**fields)


def folder() -> Path:
    """Where the named configs are: inside an installed package, or beside it in a checkout."""
    here = Path(__file__).parent.parent
    return here / "configs" if (here / "configs").is_dir() else here.parent / "configs"


def names() -> list[str]:
    """The named configs, in the order of the alphabet."""
    return sorted(path.stem for path in folder().glob("*.py"))


def load(name: str) -> Config:
    """The config of an experiment.

    Args:
      name: a name in `configs/`, or the path of a Python file that defines `config`.

    Raises:
      ValueError: no such config; lists those there are.
    """
    path = Path(name) if name.endswith(".py") else folder() / f"{name}.py"
    if not path.is_file():
        known = ", ".join(names())
        raise ValueError(f"no config {name!r}: give one of {known}, or the path of a .py file that defines `config`")
    spec = importlib.util.spec_from_file_location(f"ecr_config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not isinstance(getattr(module, "config", None), Config):
        raise ValueError(f"{path} must define `config`, a Config")
    return module.config
