"""`Config`: every setting of an experiment in one value. A run holds one resolved `Config`. Imports no jax."""

from __future__ import annotations

import dataclasses
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ecr_jax.config import registry
from ecr_jax.config.registry import StageSpec
from ecr_jax.config.sections import (
    DEFAULT_LANGUAGE_MODEL,
    ActsConfig,
    ConversationConfig,
    CorpusConfig,
    EmotionConfig,
    EncoderConfig,
    EvaluationConfig,
    FusionConfig,
    ManagerConfig,
    RecommendationConfig,
    RecommenderConfig,
    ResponseConfig,
    RlpfConfig,
    ValenceConfig,
)
from ecr_jax.errors import require


def _section(name: str, summary: str, specs: tuple[StageSpec, ...]) -> type:
    """A frozen dataclass with a field for the settings of each stage; its name must be the global it is bound to."""
    fields = [(spec.name, type(spec.settings), dataclasses.field(default=spec.settings)) for spec in specs]
    section = dataclasses.make_dataclass(name, fields, frozen=True)
    section.__doc__, section.__module__ = summary, __name__
    return section


if TYPE_CHECKING:

    class BaselinesConfig:
        """A section whose fields follow from the registry."""

        def __init__(self, **settings: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

    class ExtensionsConfig(BaselinesConfig):
        """A section whose fields follow from the registry."""

else:
    BaselinesConfig = _section(
        "BaselinesConfig", "The baselines by name; `ecr train NAME` trains one.", registry.baselines()
    )
    ExtensionsConfig = _section(
        "ExtensionsConfig",
        "Settings of stages that other packages add.",
        tuple(spec for spec in registry.stages() if spec.section.startswith("extensions.")),
    )


@dataclass(frozen=True)
class Config:
    """An experiment.

    Attributes:
      name: the run's folder under `runs`.
      base: name of the experiment whose prepared corpus is used, and whose stages are linked where they are the same:
        the same settings, and the same stages before them.
      language_model: the frozen language model of the recommender, the conversation and the baseline `language_model`;
        a name for `ecr_jax.pretrained.hub`.
      seed: the root of every random choice.
    """

    name: str
    corpus: CorpusConfig
    recommender: RecommenderConfig
    emotion: EmotionConfig
    fusion: FusionConfig
    conversation: ConversationConfig
    recommendation: RecommendationConfig
    response: ResponseConfig
    valence: ValenceConfig = ValenceConfig()
    acts: ActsConfig = ActsConfig()
    manager: ManagerConfig = ManagerConfig()
    rlpf: RlpfConfig = RlpfConfig()
    encoder: EncoderConfig = EncoderConfig()
    language_model: str = DEFAULT_LANGUAGE_MODEL
    baselines: BaselinesConfig = BaselinesConfig()
    extensions: ExtensionsConfig = ExtensionsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    base: str | None = None
    prepared: Path = Path("prepared")
    runs: Path = Path("runs")
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("name", "base"):
            value = getattr(self, name)
            valid = value is None or value.replace("-", "").replace("_", "").isalnum()
            require(self, name, valid, "use letters, digits, - and _")
        require(self, "base", self.base != self.name, "it is the run itself; give the run another name")

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.runs / self.name

    @property
    def prepared_folder(self) -> Path:
        """What `ecr prepare` writes."""
        return self.prepared / (self.base or self.name)

    def value(self, path: str) -> Any:
        """The value of a field by its path, such as "recommender.prompt.bases".

        Raises:
          AttributeError: there is no such field.
        """
        return functools.reduce(getattr, path.split("."), self)

    def stage_folder(self, stage: StageSpec | str) -> Path:
        """What `ecr train STAGE` writes."""
        return self.folder / (registry.find(stage) if isinstance(stage, str) else stage).folder

    def stage_settings(self, stage: StageSpec | str) -> Any:
        """The section of a stage or baseline."""
        return self.value((registry.find(stage) if isinstance(stage, str) else stage).section)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for manifests and run folders."""
        return json.loads(json.dumps(dataclasses.asdict(self), default=str))


Settings = TypeVar("Settings")


def replace(settings: Settings, path: str, value: Any) -> Settings:
    """Settings with one field changed.

    Args:
      settings: a `Config` or a section of it.
      path: of the field, such as "recommendation.train.seed".
      value: its new value.
    """
    name, _, rest = path.partition(".")
    inner = replace(getattr(settings, name), rest, value) if rest else value
    return dataclasses.replace(settings, **{name: inner})  # type: ignore[type-var]
