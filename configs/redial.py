"""ReDial on one machine: package-shipped models, sizes that two cores train in the time of a long lunch.

Paper:    ECR (RecSys 2024), preset `improved`; SmolLM2-135M is the language model, two layers of it in the recommender.
Commands: ecr prepare --config redial --corpus.data DIR
          ecr train STAGE --config redial      (emotion, fusion, conversation, recommendation, response)
          ecr evaluate --config redial
Hardware: two CPU cores, 16 GiB.
Time and score: docs/results/redial/.
"""

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
    OptimConfig,
    PromptOptions,
    RecommendationConfig,
    RecommenderConfig,
    ResponseConfig,
    SasRecConfig,
    TrainConfig,
)

# The heads' few scalars, and what is linear in frozen states, learn faster than the prompt encoder.
SCALARS = (
    (r"head/((walk|copy|mention|prior)_(scale|unit|relations|recency|kind)|like/.*)", 10.0),
    (".*", 1.0),
)

# A prompt that learns as fast as the adapter drowns the language model that it is put before.
PROMPT = ((r"encoder/.*", 0.01), (".*", 1.0))


def larger_steps(learning_rate: float) -> TrainConfig:
    """A baseline's training; the other baselines do best with the default learning rate, of those that were tried."""
    return TrainConfig(epochs=10, batch_size=256, optim=OptimConfig(learning_rate=learning_rate))


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
    ),
    encoder=EncoderConfig(turn_tokens=64, entity_tokens=48),
    recommender=RecommenderConfig(
        layers=2, prompt=PromptOptions(entity_width=128, dropout=0.2), max_tokens=96, max_states=96, max_entities=16
    ),
    emotion=EmotionConfig(
        train=TrainConfig(epochs=3, batch_size=256, optim=OptimConfig(learning_rate=1e-3, warmup=0.1)),
    ),
    fusion=FusionConfig(
        train=TrainConfig(steps=75, batch_size=64, optim=OptimConfig(learning_rate=1e-3, warmup=0.1)),
        valid_dialogues=400,
    ),
    conversation=ConversationConfig(
        train=TrainConfig(steps=60, batch_size=8, optim=OptimConfig(learning_rate=3e-3, warmup=0.1, groups=PROMPT)),
        valid_examples=32,
        max_reply=48,
    ),
    recommendation=RecommendationConfig(
        train=TrainConfig(epochs=2, batch_size=64, optim=OptimConfig(learning_rate=7e-4, warmup=0.1, groups=SCALARS)),
        loss="feedback_cross_entropy + feedback_bce",
        valid_dialogues=400,
    ),
    response=ResponseConfig(
        train=TrainConfig(steps=60, batch_size=8, optim=OptimConfig(learning_rate=3e-3, warmup=0.1)),
        valid_examples=32,
        max_prompt=96,
        max_review=96,
    ),
    baselines=BaselinesConfig(
        autorec=EmbeddingBaselineConfig(train=larger_steps(3e-2)), sasrec=SasRecConfig(train=larger_steps(1e-2))
    ),
    evaluation=EvaluationConfig(replies=32),
)
