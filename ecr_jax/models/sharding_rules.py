"""The sharding rules of each family of models: one table of logical axes for every array that a stage trains or reads.

`training.sharding` turns a table into shardings for a mesh and a strategy; nothing here depends on it. The axes:
`width`, the side of a kernel that meets a whole state; `hidden`, its other side; `features`, the columns of a table of
vectors. A kernel that is split by columns and the kernel after it by rows make one sum over devices. Tables of entities
and the vocabulary are split by columns, since their number of rows divides by nothing in particular; the messages of
the graph convolution then are, too, and only its edges' ids are whole on each device.
"""

from __future__ import annotations

from ecr_jax.models.lm.convert import LanguageConfig
from ecr_jax.models.lm.sharding_rules import Rules, language_model_rules

_TOWER: Rules = (
    (r"down/kernel", ("width", "hidden")),
    (r"down/bias", ("hidden",)),
    (r"up/kernel", ("hidden", "width")),
    (r"up/bias", (None,)),
)

PROMPT_ENCODER: Rules = (
    (r"nodes", ("entities", "features")),
    (r"emotions", (None, "features")),
    (r"(recommendation|conversation)/table", ("positions", "features")),
    (r"rgcn/bases", (None, "width", "hidden")),
    (r"rgcn/root", ("width", "hidden")),
    (r"rgcn/comp", ("relations", None)),
    (r"rgcn/bias", ("hidden",)),
    (r"(entity_text|entity_out|token_out|cross|key_values)/kernel", ("width", "hidden")),
    (r"(entity_out|token_out|key_values)/bias", ("hidden",)),
    (r"emotion_out/kernel", ("width", None)),
    (r"emotion_out/bias", (None,)),
    (r"emotion_fusion/out/kernel", ("hidden", "width")),
    (r"emotion_fusion/out/bias", (None,)),
    *((rf"(\w+_tower|\w+/tower|emotion_fusion)/{pattern}", axes) for pattern, axes in _TOWER),
    (r"prompt_norm/(scale|bias)", (None,)),
)
"""Of `models.prompt.PromptEncoder`."""

HEADS: Rules = (
    (r"query/(state|\w+_pool/(hidden|out))/kernel", ("width", "hidden")),
    (r"query/(state|\w+_pool/hidden)/bias", ("hidden",)),
    (r"query/\w+_pool/score/kernel", ("hidden", None)),
    *((rf"cooccurrence/{pattern}", axes) for pattern, axes in _TOWER),
    (r"(mixture/last_turn|gate/last_turn|repetition/score|two_hop/mention|cooccurrence/out)/kernel", ("width", None)),
    (r"like_probability/logit/kernel", ("width", None)),
    (r"(repetition/score|two_hop/mention|cooccurrence/out|like_probability/logit)/bias", (None,)),
    (r"(query/)?\w*norm/(scale|bias)", (None,)),
    (r"(query/\w+_pool|repetition|two_hop)/norm/(scale|bias)", (None,)),
    (r"two_hop/relations", (None, "relations")),
    (r"aversion/relations", ("relations",)),
    (r"(\w+/)?(\w+_)?(recency|kind|share|feeling/weights)", (None,)),
    (r"correction|(prior|two_hop|cooccurrence)/(scale|unit)|gate/bias", ()),
    (r"aversion/(itself|cooccurrence)", ()),
    (r"like_probability/(item_scale|entity_scale|entity_weight|valence_weight|unit)", ()),
)
"""Of `models.heads.Heads`, whose parameters are small but for those of the query."""

RECOMMENDER_CONSTANTS: Rules = (
    (r"entity_text", ("entities", "features")),
    (r"(item_prior|item_odds)", ("entities",)),
    (r"(facts|similar_films)/\w+", ("entities", None)),
    (r"graph/(senders|receivers|edges/\w+|globals/pairs/\d+)", ("edges",)),
    (r"graph/(globals/receivers/\d+|globals/(nodes|rows))", ("entities",)),
    (r"graph/n_(node|edge)", (None,)),
)
"""Of what the recommender reads and no stage trains, besides the language model."""

CLASSIFIER: Rules = (
    (r"norm/(scale|bias)", (None,)),
    (r"hidden/kernel", (None, "features")),  # its other side has the width of all features, which seldom divides
    (r"hidden/bias", ("features",)),
    (r"out/kernel", ("features", None)),
    (r"out/bias", (None,)),
)
"""Of `models.classifier.Classifier`."""

VALENCE: Rules = (
    (r"norm/(scale|bias)", ("folds", None)),
    (r"project/kernel", ("folds", "width", "hidden")),
    (r"project/bias", ("folds", "hidden")),
    (r"(place|barrier)/embedding", ("folds", "positions", "hidden")),
    (r"score/kernel", ("folds", "hidden", None)),
    (r"(place|barrier)_score/embedding", ("folds", "positions", None)),
    (r"nothing|(score|out)/bias", ("folds", None)),
    (r"out/kernel", ("folds", "width", None)),
)
"""Of `models.valence.ValenceModel`, with the parameters of all folds stacked."""


def _anchored(rules: Rules, under: str = "") -> Rules:
    """Rules for whole paths, below a part of the tree."""
    parent = f"{under}/" if under else ""
    return tuple((f"^{parent}(?:{pattern})$", axes) for pattern, axes in rules)


def recommender_rules(language_model: LanguageConfig) -> Rules:
    """Of the stages `fusion` and `recommendation`: "encoder", "head", and frozen arrays with "language_model"."""
    return (
        *_anchored(PROMPT_ENCODER, "encoder"),
        *_anchored(HEADS, "head"),
        *_anchored(RECOMMENDER_CONSTANTS),
        *language_model_rules(language_model, "language_model"),
    )


def generator_rules(language_model: LanguageConfig) -> Rules:
    """Of the stages `conversation` and `response`: "language_model", "adapter", "movie", and the prompt's "encoder"."""
    return (
        *language_model_rules(language_model, "language_model|adapter"),
        *_anchored(((r"movie/rows", ("vocab", "features")),)),
        *_anchored(PROMPT_ENCODER, "encoder"),
        *_anchored(RECOMMENDER_CONSTANTS),
    )


def classifier_rules() -> Rules:
    """Of the stage `acts`."""
    return _anchored(CLASSIFIER)


def emotion_rules(encoder: LanguageConfig) -> Rules:
    """Of the stage `emotion`: "classifier", and "encoder" with its "adapter" where it is tuned."""
    return (*_anchored(CLASSIFIER, "classifier"), *language_model_rules(encoder, "encoder|adapter"))


def valence_rules() -> Rules:
    """Of the stage `valence`."""
    return _anchored(VALENCE)
