"""The built-in corpus with package-shipped models: every stage in minutes on a laptop.

Paper:    ECR (RecSys 2024), the `improved` preset at a small size.
Command:  ecr demo
Hardware: two CPU cores, 8 GiB.
Time:     see docs/results/ for what was measured.
"""

from ecr_jax.config import (
    Config,
    ConversationConfig,
    CorpusConfig,
    EmotionConfig,
    EncoderConfig,
    EvaluationConfig,
    FusionConfig,
    OptimConfig,
    PromptOptions,
    RecommendationConfig,
    RecommenderConfig,
    ResponseConfig,
    TrainConfig,
)

# The heads' few scalars, and what is linear in frozen states, learn faster than the prompt encoder.
SCALARS = (
    (r"head/((walk|copy|mention|prior)_(scale|unit|relations|recency|kind)|like/.*)", 10.0),
    (".*", 1.0),
)

# A prompt that learns as fast as the adapter drowns the language model that it is put before.
PROMPT = ((r"encoder/.*", 0.01), (".*", 1.0))

config = Config(
    name="demo",
    corpus=CorpusConfig(name="films", dialogues=800),
    encoder=EncoderConfig(turn_tokens=64, entity_tokens=48),
    recommender=RecommenderConfig(
        layers=2, prompt=PromptOptions(entity_width=64, dropout=0.3), max_tokens=48, max_states=64, max_entities=12
    ),
    emotion=EmotionConfig(
        train=TrainConfig(epochs=8, batch_size=128, optim=OptimConfig(learning_rate=2e-3, warmup=0.1)),
    ),
    fusion=FusionConfig(train=TrainConfig(steps=30, batch_size=64, optim=OptimConfig(learning_rate=1e-3, warmup=0.1))),
    conversation=ConversationConfig(
        train=TrainConfig(steps=20, batch_size=4, optim=OptimConfig(learning_rate=3e-3, warmup=0.1, groups=PROMPT)),
        valid_examples=8,
        max_reply=40,
    ),
    recommendation=RecommendationConfig(
        train=TrainConfig(epochs=3, batch_size=64, optim=OptimConfig(learning_rate=7e-4, warmup=0.1, groups=SCALARS)),
        loss="feedback_cross_entropy + feedback_bce",
    ),
    response=ResponseConfig(
        train=TrainConfig(steps=20, batch_size=4, optim=OptimConfig(learning_rate=3e-3, warmup=0.1)),
        valid_examples=8,
        max_prompt=72,
        max_review=72,
    ),
    evaluation=EvaluationConfig(replies=8),
)
