"""Starting adapters: SmolLM2 tuned on the built-in corpus alone, which is CC0.

Other configs can begin with them (`conversation.begin_with`, `response.begin_with`). They are trained without a
knowledge prefix, since that belongs to a graph, and with the feelings that the corpus labels, so that neither the text
encoder nor another stage is needed.

Paper:    ECR (RecSys 2024), Eqs. 1, 8 and 9.
Commands: ecr prepare --config writer
          ecr train conversation --config writer
          ecr train response --config writer
          python -m ecr_jax.runs.starting_adapter runs/writer ecr_jax/pretrained/adapters/films
Hardware: two CPU cores, 8 GiB.
Time:     48 and 29 minutes beside other work on two slow cores (140 GFLOP/s).
Score:    perplexity per token 2.08 of replies after their plans, 1.89 of reviews of films that training did not
          see; 64 validation examples each, at the best step. `python -m benchmarks.writers --config writer` measures
          the base model beside them.
"""

import dataclasses

from ecr_jax.config import (
    Config,
    ConversationConfig,
    CorpusConfig,
    EmotionConfig,
    FusionConfig,
    OptimConfig,
    RecommendationConfig,
    ResponseConfig,
    TrainConfig,
    presets,
)

UNUSED = TrainConfig(steps=1)
"""Of the stages that this config does not train."""

config = Config(
    name="writer",
    corpus=CorpusConfig(name="films", dialogues=3000, film_reviews=3000),
    recommender=dataclasses.replace(presets.improved(576), max_tokens=64),
    emotion=EmotionConfig(train=UNUSED),
    fusion=FusionConfig(train=UNUSED),
    recommendation=RecommendationConfig(train=UNUSED),
    conversation=ConversationConfig(
        train=TrainConfig(steps=320, batch_size=8, eval_every=80, optim=OptimConfig(learning_rate=2e-3, warmup=0.05)),
        prefix=False,
        classify_emotions=False,
        adapter=presets.films_adapter(),
        max_reply=48,
        valid_examples=64,
    ),
    response=ResponseConfig(
        train=TrainConfig(steps=160, batch_size=8, eval_every=80, optim=OptimConfig(learning_rate=2e-3, warmup=0.05)),
        classify_emotions=False,
        adapter=presets.films_adapter(),
        max_review=64,
        valid_examples=64,
    ),
)
