"""The built-in corpus with package-shipped models: every stage in minutes on a laptop.

Paper:    ECR (RecSys 2024), the `improved` preset at a small size.
Command:  ecr demo
Hardware: two CPU cores, 8 GiB.
Time:     about ten minutes; docs/results/ has what was measured.
"""

import dataclasses

from ecr_jax.config import (
    Config,
    ConversationConfig,
    CorpusConfig,
    EmotionConfig,
    EncoderConfig,
    EvaluationConfig,
    FusionConfig,
    OptimConfig,
    RecommendationConfig,
    ResponseConfig,
    TrainConfig,
    presets,
)

WIDTH = 576  # of SmolLM2-135M

config = Config(
    name="demo",
    corpus=CorpusConfig(name="films", dialogues=800),
    encoder=EncoderConfig(turn_tokens=64, entity_tokens=48),
    recommender=dataclasses.replace(
        presets.improved(WIDTH),
        prompt=dataclasses.replace(presets.improved_prompt(WIDTH), entity_width=64, dropout=0.3),
        heads=presets.summed_heads(),
        cooccurrence_power=1.0,
        layers=2,
        max_tokens=48,
        max_states=64,
        max_entities=12,
    ),
    emotion=EmotionConfig(
        train=TrainConfig(epochs=8, batch_size=128, optim=OptimConfig(learning_rate=2e-3, warmup=0.1)),
    ),
    fusion=FusionConfig(train=TrainConfig(steps=30, batch_size=64, optim=OptimConfig(learning_rate=1e-3, warmup=0.1))),
    conversation=ConversationConfig(
        train=TrainConfig(
            steps=20,
            batch_size=4,
            optim=OptimConfig(learning_rate=2e-4, warmup=0.1),
        ),
        adapter=presets.films_adapter(),
        begin_with="films",
        valid_examples=8,
        max_reply=40,
    ),
    recommendation=RecommendationConfig(
        train=TrainConfig(
            epochs=3,
            batch_size=64,
            optim=OptimConfig(learning_rate=7e-4, warmup=0.1, groups=presets.fast_head_scalars()),
        ),
        loss="feedback_cross_entropy + feedback_bce",
    ),
    response=ResponseConfig(
        train=TrainConfig(steps=20, batch_size=4, optim=OptimConfig(learning_rate=2e-4, warmup=0.1)),
        adapter=presets.films_adapter(),
        begin_with="films",
        valid_examples=8,
        max_prompt=96,
        max_review=72,
    ),
    evaluation=EvaluationConfig(replies=8, whole_replies=8),
)
