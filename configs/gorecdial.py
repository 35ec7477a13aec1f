"""GoRecDial on one machine: a game in which an expert finds the films that a seeker likes, on the Wikidata film table.

Paper:    ECR (RecSys 2024), the `improved` preset; GoRecDial is Kang et al., EMNLP 2019.
Commands: ecr prepare --config gorecdial --corpus.data DIR
          ecr train STAGE --config gorecdial      (emotion, acts, fusion, conversation, recommendation, response)
          ecr train BASELINE --config gorecdial   (autorec, ease, kbrd, kgsf, language_model, sasrec, text_encoder,
          tg_redial)
          ecr evaluate --config gorecdial
Hardware: two CPU cores, 16 GiB.
Time and score: docs/results/gorecdial.md; the best baseline has recall@10 .421, ECR itself is not measured yet.

The corpus has no validation part: a tenth of the training dialogues is chosen by the hash of their ids
(`corpus.valid_share`). Films are linked by IMDb id; the items are the 1,939 films of its film table's 2,065 that the
Wikidata film table has, and other films that are named in free text are not linked. A like is a film that the seeker
accepts, a dislike one that they reject. The response is fine-tuned on the reviews of ReDial's films. Dialogues hardly
ever recommend a film twice, so the repetition head has little to learn. The trained baselines have the settings that
were chosen on ReDial. The variant `llmcrs` manages sub-tasks and refines the manager (docs/rlpf.md); its prompt
describes the sub-tasks in `llmcrs_si`, and shows an example of each in `llmcrs_di`.
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
    ManagerConfig,
    NearestContextsConfig,
    OptimConfig,
    PolicyConfig,
    RecommendationConfig,
    ResponseConfig,
    RlpfConfig,
    SasRecConfig,
    TrainConfig,
    presets,
)

WIDTH = 576  # of SmolLM2-135M


def baseline_training(learning_rate: float) -> TrainConfig:
    """Training of a baseline with the learning rate that was chosen for ReDial."""
    return TrainConfig(epochs=10, batch_size=256, optim=OptimConfig(learning_rate=learning_rate))


config = Config(
    name="gorecdial",
    corpus=CorpusConfig(
        name="gorecdial",
        train="gorecdial/train.jsonl",
        test="gorecdial/test.jsonl",
        movies="gorecdial/movie_plot.csv",
        reviews="reviews/reviews.jsonl",
        goemotions="goemotions",
    ),
    encoder=EncoderConfig(turn_tokens=64, entity_tokens=48),
    recommender=dataclasses.replace(
        presets.improved(WIDTH),
        prompt=dataclasses.replace(presets.improved_prompt(WIDTH), entity_width=128, dropout=0.2),
        layers=2,
        max_tokens=128,
        max_states=128,
        max_entities=16,
    ),
    emotion=EmotionConfig(
        train=TrainConfig(epochs=3, batch_size=256, optim=OptimConfig(learning_rate=1e-3, warmup=0.1)),
    ),
    fusion=FusionConfig(
        train=TrainConfig(steps=75, batch_size=64, optim=OptimConfig(learning_rate=1e-3, warmup=0.1)),
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
            epochs=2,
            batch_size=64,
            optim=OptimConfig(learning_rate=7e-4, warmup=0.1, groups=presets.fast_head_scalars()),
        ),
        loss="feedback_cross_entropy + feedback_bce + like_pairwise",
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

llmcrs = dataclasses.replace(
    config,
    name="gorecdial_llmcrs",
    base="gorecdial",
    manager=ManagerConfig(
        train=TrainConfig(steps=100, batch_size=8, eval_every=50, optim=OptimConfig(learning_rate=1e-3, warmup=0.1)),
        layers=4,
        max_tokens=32,
        category_weight=1.0,
        valid_examples=64,
    ),
    rlpf=RlpfConfig(
        train=TrainConfig(
            steps=48,
            batch_size=8,
            eval_every=16,
            optim=OptimConfig(learning_rate=1e-3, warmup=0.1, weight_decay=0.0),
        ),
        policy=PolicyConfig(advantage="leave_one_out", samples=8),
        train_examples=384,
        valid_examples=64,
    ),
    evaluation=dataclasses.replace(config.evaluation, nearest_contexts=NearestContextsConfig(contexts=800, power=2.0)),
)

variants = {
    "llmcrs": llmcrs,
    "llmcrs_si": dataclasses.replace(
        llmcrs, name="gorecdial_llmcrs_si", manager=dataclasses.replace(llmcrs.manager, schema=True)
    ),
    "llmcrs_di": dataclasses.replace(
        llmcrs, name="gorecdial_llmcrs_di", manager=dataclasses.replace(llmcrs.manager, demonstrations=5)
    ),
}
