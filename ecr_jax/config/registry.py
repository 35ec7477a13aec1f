"""The one table of stages and baselines: what each is called, needs, reads of the config, writes, and who trains it.

The command line, the records in run folders, the dependencies, sweeps and reports all follow from this table. A new
stage or baseline is one file with its function and one `StageSpec`: in `_BUILT_IN`, or as an entry point of the group
`ecr_jax.stages` in another package. Functions are named by path and imported when they are called, so that reading the
table imports no jax.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal

from ecr_jax.config.sections import (
    BaselineConfig,
    EaseConfig,
    EmbeddingBaselineConfig,
    GraphBaselineConfig,
    KgsfConfig,
    LanguageModelBaselineConfig,
    SasRecConfig,
)

if TYPE_CHECKING:
    from ecr_jax.config.schema import Config

GROUP = "ecr_jax.stages"
"""Entry points of this group are the `StageSpec`s of other packages."""

_RECOMMENDER_INPUT = (
    "recommender.entity_text",
    "recommender.max_tokens",
    "recommender.max_states",
    "recommender.max_entities",
    "recommender.emotions_per_entity",
    "recommender.neighbours",
    "recommender.cooccurring_items",
    "recommender.cooccurrence_power",
)
"""Fields that decide what a context looks like to the stages fusion and conversation."""


@dataclass(frozen=True)
class StageSpec:
    """A stage or a baseline.

    Attributes:
      name: what the command line calls it: `ecr train NAME`.
      summary: what it learns, in a few words.
      train: "package.module:function", called as `train(experiment, spec)`.
      reads: paths of the config fields, other than its own section, that its outcome follows from.
      needs: stages whose outcome it reads; what these need follows from their own specs.
      needs_if: path of a boolean config field -> a stage that is needed where the field is true.
      writes: the files of a complete folder.
      kind: a "stage" of ECR or a "baseline", which reports put beside ECR.
      build: of a baseline, "package.module:function", called as `build(experiment, settings)`.
      optional: of a stage, whether a run is complete without it: it is trained where a stage needs it, or by name.
      settings: its default settings, where they are not a section of `Config` itself: of baselines, and of stages of
        other packages.
      paper: what it comes from.
    """

    name: str
    summary: str
    train: str
    reads: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    needs_if: Mapping[str, str] = field(default_factory=dict)
    writes: tuple[str, ...] = ("params.safetensors", "summary.json")
    kind: Literal["stage", "baseline"] = "stage"
    build: str | None = None
    optional: bool = False
    settings: Any = None
    paper: str = ""

    @property
    def section(self) -> str:
        """Path of its own settings in the config."""
        if self.kind == "baseline":
            return f"baselines.{self.name}"
        return self.name if self.settings is None else f"extensions.{self.name}"

    @property
    def folder(self) -> str:
        """Its folder, relative to the run's."""
        return self.name if self.kind == "stage" else f"baselines/{self.name}"

    def dependencies(self, config: Config) -> tuple[StageSpec, ...]:
        """All stages that it needs under a config, and those that these need, in the order they are trained."""
        names: set[str] = set()
        pending = [self]
        while pending:
            spec = pending.pop()
            needed = {*spec.needs, *(stage for path, stage in spec.needs_if.items() if config.value(path))}
            pending += [specs()[name] for name in needed - names]
            names |= needed
        return tuple(spec for spec in specs().values() if spec.name in names)

    def import_function(self, name: Literal["train", "build"]) -> Callable[..., Any]:
        """Imports the function that trains or builds it."""
        path = getattr(self, name)
        module, _, function = path.partition(":")
        return getattr(importlib.import_module(module), function)


def _baseline(name: str, summary: str, settings: Any, paper: str, *reads: str) -> StageSpec:
    return StageSpec(
        name,
        summary,
        "ecr_jax.stages.baselines:train",
        reads=("corpus", "seed", *reads),
        needs=("emotion",),
        kind="baseline",
        build=f"ecr_jax.stages.baselines.{name}:build",
        settings=settings,
        paper=paper,
    )


_BUILT_IN = (
    StageSpec(
        "emotion",
        "nine emotions of a seeker utterance, with probabilities",
        "ecr_jax.stages.emotion:train",
        reads=(
            "corpus",
            "encoder",
            "seed",
            "recommender.emotions_per_entity",
            "recommender.directional_cooccurrence",
        ),
        writes=(
            "params.safetensors",
            "summary.json",
            "classifier.json",
            "emotions.parquet",
            "emotion_cooccurrence.npz",
            "cooccurrence.npz",
        ),
        paper="ECR 4.1.1",
    ),
    StageSpec(
        "valence",
        "how each mention of a seeker is felt about: like, dislike or unclear",
        "ecr_jax.stages.valence:train",
        reads=("corpus", "encoder", "seed"),
        writes=("params.safetensors", "summary.json", "ngrams.safetensors", "valence.json", "valence.parquet"),
        optional=True,
        paper="after ECR 4.1.1, for mentions in place of utterances",
    ),
    StageSpec(
        "acts",
        "what a seeker's turn does, and what a reply to it does",
        "ecr_jax.stages.acts:train",
        reads=("corpus", "encoder", "seed"),
        writes=("params.safetensors", "summary.json", "acts.json"),
        paper="after LLMCRS 3.1, learned from labelled turns",
    ),
    StageSpec(
        "fusion",
        "the knowledge prompt: fusion of words and entities (pre-training)",
        "ecr_jax.stages.fusion:train",
        reads=(
            "corpus",
            "encoder",
            "seed",
            "language_model",
            *_RECOMMENDER_INPUT,
            "recommender.layers",
            "recommender.prompt",
            "recommender.prefix_visibility",
        ),
        needs=("emotion",),
        paper="ECR 3.2 (UniCRS pre-training)",
    ),
    StageSpec(
        "conversation",
        "the recommendation response: a reply with <movie> slots",
        "ecr_jax.stages.conversation:train",
        reads=("corpus", "encoder", "seed", "language_model", "recommender.prompt", *_RECOMMENDER_INPUT),
        needs_if={"conversation.classify_emotions": "emotion", "conversation.prefix": "fusion"},
        paper="ECR Eq. 1",
    ),
    StageSpec(
        "recommendation",
        "items, from emotion-aware local and global entities, weighted by feedback",
        "ecr_jax.stages.recommendation:train",
        reads=("corpus", "encoder", "seed", "language_model", "recommender"),
        needs=("emotion", "fusion"),
        needs_if={"recommendation.use_resp": "conversation", "recommender.valence": "valence"},
        paper="ECR Eqs. 3-7",
    ),
    StageSpec(
        "response",
        "the emotional response: a continuation with feeling, bound to facts",
        "ecr_jax.stages.response:train",
        reads=("corpus", "encoder", "seed"),
        needs_if={"response.classify_emotions": "emotion"},
        paper="ECR Eqs. 8-9",
    ),
    StageSpec(
        "manager",
        "which sub-task a reply carries out, and with which arguments",
        "ecr_jax.stages.manager:train",
        reads=("corpus", "seed", "language_model"),
        writes=("params.safetensors", "summary.json", "manager.json"),
        optional=True,
        paper="LLMCRS 3.1, the choice within a closed set",
    ),
    StageSpec(
        "rlpf",
        "the manager, refined by what its choices earn",
        "ecr_jax.stages.rlpf:train",
        reads=(
            "corpus",
            "seed",
            "language_model",
            "encoder",
            "evaluation.nearest_contexts",
            "evaluation.tie_break",
        ),
        needs=("manager",),
        writes=("params.safetensors", "summary.json", "rlpf.json"),
        optional=True,
        paper="LLMCRS 4, Eqs. 1-5",
    ),
    _baseline("autorec", "AutoRec over the context's entities", EmbeddingBaselineConfig(),
              "Sedhain et al. 2015, as ReDial's baseline", "recommender.max_entities"),
    _baseline("ease", "EASE over the context's films, in closed form", EaseConfig(), "Steck 2019",
              "recommender.max_entities"),
    _baseline("kbrd", "KBRD: an RGCN and self-attention over entities", GraphBaselineConfig(),
              "Chen et al. 2019", "recommender.max_entities"),
    _baseline("kgsf", "KGSF: word graph and entity graph, fused", KgsfConfig(), "Zhou et al. 2020",
              "recommender.max_entities"),
    _baseline("language_model", "the frozen language model's last state", LanguageModelBaselineConfig(),
              "LLMCRS's GPT-2 row", "language_model", "recommender.max_tokens"),
    _baseline("sasrec", "SASRec over the context's films, in order", SasRecConfig(), "Kang and McAuley 2018",
              "recommender.max_entities"),
    _baseline("text_encoder", "the frozen text encoder, pooled by attention", BaselineConfig(),
              "LLMCRS's BERT row", "encoder", "recommender.max_states"),
    _baseline("tg_redial", "SASRec over the context's films, beside the pooled text encoder", SasRecConfig(),
              "Zhou et al. 2020, TG-ReDial's recommender", "encoder", "recommender.max_entities",
              "recommender.max_states"),
)  # fmt: skip


@functools.cache
def specs() -> dict[str, StageSpec]:
    """All stages and baselines by name, each after what it needs; those of other packages are last.

    Raises:
      ValueError: an entry point that is not a `StageSpec`, a name that is taken, or needs that do not exist or are
        circular.
    """
    table = {spec.name: spec for spec in _BUILT_IN}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        spec = entry.load()
        if not isinstance(spec, StageSpec):
            raise ValueError(f"the entry point {entry.name!r} of {GROUP} is a {type(spec).__name__}, not a StageSpec")
        if spec.name in table:
            raise ValueError(f"the entry point {entry.name!r} of {GROUP} names a stage {spec.name!r}, which is taken")
        if spec.settings is None or (spec.kind == "baseline") != (spec.build is not None):
            raise ValueError(f"the stage {spec.name!r} needs `settings`, and `build` if and only if it is a baseline")
        table[spec.name] = spec
    for spec in table.values():
        for name in (*spec.needs, *spec.needs_if.values()):
            if name not in table:
                raise ValueError(f"the stage {spec.name!r} needs {name!r}, which does not exist")
    return _in_order(table)


def _in_order(table: Mapping[str, StageSpec]) -> dict[str, StageSpec]:
    """The same table, each stage after what it needs and otherwise as it was."""
    ordered: dict[str, StageSpec] = {}

    def add(name: str, before: tuple[str, ...]) -> None:
        if name in before:
            raise ValueError(f"stages need each other: {' needs '.join((*before, name))}")
        for needed in (*table[name].needs, *table[name].needs_if.values()):
            add(needed, (*before, name))
        ordered.setdefault(name, table[name])

    for name in table:
        add(name, ())
    return ordered


def find(name: str) -> StageSpec:
    """The stage or baseline of a name.

    Raises:
      ValueError: there is none; the message lists them.
    """
    if name not in specs():
        raise ValueError(f"no stage {name!r}; choose one of {', '.join(specs())}")
    return specs()[name]


def stages() -> tuple[StageSpec, ...]:
    """The stages, in the order they are trained."""
    return tuple(spec for spec in specs().values() if spec.kind == "stage")


def required_stages(config: Config) -> tuple[StageSpec, ...]:
    """The stages of a complete run: all that are not optional, and the optional ones that these need."""
    names = {spec.name for spec in stages() if not spec.optional}
    for spec in reversed(stages()):  # a stage comes after what it needs
        if spec.name in names:
            names |= {needed.name for needed in spec.dependencies(config)}
    return tuple(spec for spec in stages() if spec.name in names)


def baselines() -> tuple[StageSpec, ...]:
    """The baselines."""
    return tuple(spec for spec in specs().values() if spec.kind == "baseline")
