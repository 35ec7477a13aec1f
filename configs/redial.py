"""ReDial on one machine: package-shipped models, sizes that two cores train in the time of a long lunch.

Paper:    ECR (RecSys 2024), preset `improved`; SmolLM2-135M is the language model, two layers of it in the recommender.
Commands: ecr prepare --config redial --corpus.data DIR
          ecr train STAGE --config redial      (emotion, valence, acts, fusion, conversation, recommendation, response)
          ecr train BASELINE --config redial   (autorec, ease, kbrd, kgsf, language_model, sasrec, text_encoder,
          tg_redial)
          ecr evaluate --config redial
Hardware: two CPU cores, 16 GiB.
Time and score: docs/results/redial.md.

Variants, as `--config redial:NAME`. Most use redial's prepared corpus, and link each of its stages that is the same
and comes after the same stages. Compare them with `ecr compare runs/redial runs/redial_NAME`.

    ecr_l         local emotion-aware entities alone: no global entities, no feedback weights (ECR 6.1, Table 3)
    ecr_ls        the same with the seeker's feedback
    ecr_lg        local and global entities, no feedback weights
    ecr_none      no emotions, global entities or feedback: UniCRS with this project's scoring heads
    no_feeling    ECR whose scoring heads do not know how mentions are felt about
    summed        the scoring heads co-occurrence, popularity, two hops and repetition, summed, in place of the mixture
    gate          repetition as a gate on the sum of all heads, g · p(mentioned) + (1 - g) · p(new)
    use_resp      the recommender reads the generated recommendation response u^r (Eqs. 2 and 6)
    tuned_emotion  the emotion classifier is trained with a LoRA adapter of the text encoder
    whole         all layers of the language model in the recommender: for an accelerator
    plain         ECR as published, without this project's scoring heads, with the numerics of `improved`; without the
                  heads it learns more slowly, so it has five epochs, of which validation chooses the best
    plain_l, plain_ls, plain_lg    its ablations
    unicrs        plain without emotions, global entities or feedback: UniCRS (KDD 2022)
    paper_preset  the preset `paper` at this config's sizes
    code_preset   the preset `code` at this config's sizes

One variant has a corpus of its own, and is prepared and trained as a whole; four more use its corpus:

    all_data      with what is public of the other training dialogues: the films of 5,209, and text of 2,714 of them
    all_data_none, all_data_plain, all_data_unicrs, all_data_whole    as ecr_none, plain, unicrs and whole
"""

import dataclasses

from ecr_jax.config import (
    BaselinesConfig,
    Config,
    ConversationConfig,
    CorpusConfig,
    EmbeddingBaselineConfig,
    EmotionConfig,
    EncoderConfig,
    EvaluationConfig,
    FusionConfig,
    LoraConfig,
    OptimConfig,
    RecommendationConfig,
    RecommenderConfig,
    ResponseConfig,
    SasRecConfig,
    TrainConfig,
    presets,
    replace,
)

WIDTH = 576  # of SmolLM2-135M


def sized(preset: RecommenderConfig) -> RecommenderConfig:
    """A preset at the sizes of this config."""
    prompt = dataclasses.replace(preset.prompt, entity_width=128)
    return dataclasses.replace(preset, prompt=prompt, layers=2, max_tokens=96, max_states=96, max_entities=16)


def baseline_training(learning_rate: float) -> TrainConfig:
    """Training of a baseline whose learning rate was chosen on validation; the others do best with the default."""
    return TrainConfig(epochs=10, batch_size=256, optim=OptimConfig(learning_rate=learning_rate))


RECOMMENDER = replace(replace(sized(presets.improved(WIDTH)), "prompt.dropout", 0.2), "valence", True)
# On 1,000 validation dialogues (`benchmarks.like_power`), the power with the best recall of liked films.
RECOMMENDER = replace(RECOMMENDER, "heads.like_power", 0.25)

config = Config(
    name="redial",
    corpus=CorpusConfig(
        name="redial",
        train="redial/train.jsonl",
        valid="redial/valid.jsonl",
        test="redial/test.jsonl",
        graph="kg",
        movies="movies.jsonl",
        reviews="reviews/reviews.jsonl",
        goemotions="goemotions",
        intents="iard/iard.jsonl",
    ),
    encoder=EncoderConfig(turn_tokens=64, entity_tokens=48),
    recommender=RECOMMENDER,
    emotion=EmotionConfig(
        train=TrainConfig(epochs=3, batch_size=256, optim=OptimConfig(learning_rate=1e-3, warmup=0.1)),
    ),
    fusion=FusionConfig(
        train=TrainConfig(steps=200, batch_size=64, optim=OptimConfig(learning_rate=1e-3, warmup=0.1)),
        valid_dialogues=400,
    ),
    conversation=ConversationConfig(
        train=TrainConfig(
            steps=60,
            batch_size=8,
            optim=OptimConfig(learning_rate=1e-3, warmup=0.1),
        ),
        adapter=presets.films_adapter(),
        begin_with="films",
        valid_examples=32,
        max_reply=48,
    ),
    recommendation=RecommendationConfig(
        train=TrainConfig(
            epochs=3,
            batch_size=64,
            optim=OptimConfig(learning_rate=7e-4, warmup=0.1, groups=presets.fast_head_scalars()),
        ),
        loss="feedback_cross_entropy + feedback_bce + like_pairwise",
        select="mrr@10",
        valid_dialogues=400,
    ),
    response=ResponseConfig(
        train=TrainConfig(steps=60, batch_size=8, optim=OptimConfig(learning_rate=3e-3, warmup=0.1)),
        adapter=presets.films_adapter(),
        begin_with="films",
        valid_examples=32,
        max_prompt=96,
        max_review=96,
    ),
    baselines=BaselinesConfig(
        autorec=EmbeddingBaselineConfig(train=baseline_training(3e-2)),
        sasrec=SasRecConfig(train=baseline_training(1e-2)),
    ),
    evaluation=EvaluationConfig(replies=32),
)


def variant(name: str, *changes: tuple[str, object], of: Config | None = None) -> Config:
    """A config with a name of its own, the corpus of `of` (by default redial) and some fields changed."""
    of = of or config
    changed = dataclasses.replace(of, name=f"redial_{name}", base=of.name)
    for path, value in changes:
        changed = replace(changed, path, value)
    return changed


TUNED_EMOTION = EmotionConfig(
    train=TrainConfig(epochs=3, batch_size=64, optim=OptimConfig(learning_rate=5e-4, warmup=0.1)),
    adapter=LoraConfig(patterns=(r"layers/.*",), rank=16, alpha=32.0),
)
WHOLE = ("recommender.layers", None)
NO_GLOBAL_ENTITIES = ("recommender.prompt.global_entities", False)
NO_EMOTIONS = ("recommender.prompt.emotions", False)
NO_VALENCE = ("recommender.valence", False)
NO_FEEDBACK = ("recommendation.loss", "cross_entropy")
PLAIN_HEADS = dataclasses.replace(presets.published_heads(), query="pooled")
PLAIN = (
    ("recommender.heads", PLAIN_HEADS),
    ("fusion.heads", PLAIN_HEADS),
    ("recommender.valence", False),
    ("recommendation.loss", "feedback_cross_entropy"),
    ("recommendation.train.epochs", 5),
)
ALL_DATA = dataclasses.replace(
    config, name="redial_all_data", corpus=dataclasses.replace(config.corpus, extra="redial_extra", link_by_counts=True)
)
NOTHING = NO_EMOTIONS, NO_VALENCE, NO_GLOBAL_ENTITIES, NO_FEEDBACK
PAPER, CODE = sized(presets.paper(WIDTH)), sized(presets.code(WIDTH))

variants = {
    "all_data": ALL_DATA,
    "ecr_l": variant("ecr_l", NO_GLOBAL_ENTITIES, NO_FEEDBACK),
    "ecr_ls": variant("ecr_ls", NO_GLOBAL_ENTITIES),
    "ecr_lg": variant("ecr_lg", NO_FEEDBACK),
    "ecr_none": variant("ecr_none", *NOTHING),
    "no_feeling": variant("no_feeling", ("recommender.heads.feeling", False), NO_VALENCE),
    "summed": variant("summed", ("recommender.heads", presets.summed_heads()), NO_VALENCE),
    "gate": variant("gate", ("recommender.heads.repetition", "gate")),
    "use_resp": variant("use_resp", ("recommendation.use_resp", True)),
    "tuned_emotion": variant("tuned_emotion", ("emotion", TUNED_EMOTION)),
    "whole": variant("whole", WHOLE),
    "plain": variant("plain", *PLAIN),
    "plain_l": variant("plain_l", *PLAIN, NO_GLOBAL_ENTITIES, NO_FEEDBACK),
    "plain_ls": variant("plain_ls", *PLAIN, NO_GLOBAL_ENTITIES),
    "plain_lg": variant("plain_lg", *PLAIN, NO_FEEDBACK),
    "unicrs": variant("unicrs", *PLAIN, *NOTHING),
    "all_data_none": variant("all_data_none", *NOTHING, of=ALL_DATA),
    "all_data_plain": variant("all_data_plain", *PLAIN, of=ALL_DATA),
    "all_data_unicrs": variant("all_data_unicrs", *PLAIN, *NOTHING, of=ALL_DATA),
    "all_data_whole": variant("all_data_whole", WHOLE, of=ALL_DATA),
    "paper_preset": variant(
        "paper_preset",
        ("recommender", PAPER),
        ("fusion.heads", PAPER.heads),
        ("recommendation.loss", "feedback_cross_entropy"),
    ),
    "code_preset": variant(
        "code_preset",
        ("recommender", CODE),
        ("fusion.heads", CODE.heads),
        ("recommendation.loss", "feedback_cross_entropy"),
    ),
}
