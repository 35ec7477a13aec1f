"""INSPIRED on one machine: the settings of `redial` for a corpus a ninth of its size, on its own part of DBpedia.

Paper:    ECR (RecSys 2024), the `improved` preset; INSPIRED is Hayati et al., EMNLP 2020.
Commands: ecr prepare --config inspired --corpus.data DIR
          ecr train STAGE --config inspired      (emotion, acts, fusion, conversation, recommendation, response)
          ecr evaluate --config inspired
Hardware: two CPU cores, 16 GiB.
Time and score: docs/results/inspired.md; ECR itself is not measured yet.

INSPIRED has no like or dislike feedback, so every target has the same weight, and no reviews of its own: the response
is fine-tuned on those of ReDial's films. ReDial's film table gives the years and plots that INSPIRED's graph lacks.
"""

import dataclasses

from ecr_jax.config import (
    Config,
    ConversationConfig,
    CorpusConfig,
    EmotionConfig,
    EncoderConfig,
    EvaluationConfig,
    FeedbackWeights,
    FusionConfig,
    OptimConfig,
    RecommendationConfig,
    ResponseConfig,
    TrainConfig,
    presets,
)

WIDTH = 576  # of SmolLM2-135M

config = Config(
    name="inspired",
    corpus=CorpusConfig(
        name="inspired",
        train="inspired/train.jsonl",
        valid="inspired/valid.jsonl",
        test="inspired/test.jsonl",
        graph="inspired/kg",
        movies="movies.jsonl",
        reviews="reviews/reviews.jsonl",
        goemotions="goemotions",
    ),
    encoder=EncoderConfig(turn_tokens=64, entity_tokens=48),
    recommender=dataclasses.replace(
        presets.improved(WIDTH),
        prompt=dataclasses.replace(presets.improved_prompt(WIDTH), entity_width=64, dropout=0.3),
        heads=presets.summed_heads(),
        cooccurrence_power=1.0,
        layers=2,
        max_tokens=96,
        max_states=96,
        max_entities=16,
    ),
    emotion=EmotionConfig(
        train=TrainConfig(epochs=12, batch_size=256, optim=OptimConfig(learning_rate=2e-3, warmup=0.1)),
    ),
    fusion=FusionConfig(
        train=TrainConfig(steps=100, batch_size=64, optim=OptimConfig(learning_rate=1e-3, warmup=0.1)),
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
            epochs=10,
            batch_size=64,
            patience=3,
            optim=OptimConfig(learning_rate=7e-4, warmup=0.1, groups=presets.fast_head_scalars()),
        ),
        weights=FeedbackWeights(like=1.0, dislike=1.0, unsaid=1.0),
    ),
    response=ResponseConfig(
        train=TrainConfig(steps=60, batch_size=8, optim=OptimConfig(learning_rate=1e-3, warmup=0.1)),
        adapter=presets.films_adapter(),
        begin_with="films",
        valid_examples=32,
        max_prompt=96,
        max_review=96,
    ),
    evaluation=EvaluationConfig(replies=32),
)
