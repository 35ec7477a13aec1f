"""The paper's own settings and models on ReDial: DialoGPT-small, RoBERTa-base, Llama-2-7B-Chat with LoRA.

Paper:    ECR (RecSys 2024), 4 and 5.4, the `paper` preset: what the text says; what it leaves out, as its code has it.
Commands: ecr prepare --config redial_paper --corpus.data DIR
          ecr train STAGE --config redial_paper      (emotion, acts, fusion, conversation, recommendation, response)
          ecr evaluate --config redial_paper
Hardware: one accelerator of 80 GB for `response`: Llama's 6.7 billion parameters are 27 GB in float32. They are 13.5 GB
          with --response.dtype bfloat16, and with it 7.0 GB with --response.quantize int8, 4.0 GB with
          --response.quantize nf4; --response.remat full keeps one state a layer and token instead of all. Less for
          the rest. Sizes follow from the shapes; what a step needs beside them was not measured. Llama is gated:
          accept its licence on its page and `hf auth login`, or give a folder (--response.language-model FOLDER).
          Models are read from safetensors only; the host holds them whole, in `dtype`.
Time:     not measured yet.
Score:    published R@1/10/50 .049/.220/.428, AUC .541; not reproduced yet.

The variant `redial_paper:dialogpt` has the paper's other generator of emotional responses: DialoGPT-small, tuned as a
whole, on the loss and with the forbidden n-grams of the released code.

What the paper has and these fields cannot say:
- Emotions come from a GPT-2 tuned on 5,082 annotated utterances that are not public; here from the classifier over
  RoBERTa's states, trained on GoEmotions. Reviews are those that were published, not the 34,953 of the paper.
- A batch holds turns, each with all its films; the paper's holds one film each, so its epochs have more updates.
  Warm-up is the published share of the run, and no micro-batch is left out.
- Each turn is read by RoBERTa on its own (the latest turns that fit into 200 states); the paper's reads the last 200
  tokens as one text. Contexts begin at a turn; the paper's may begin inside one. Context entities are distinct.
- Global entities of a context entity: the 128 strongest; the paper's code takes every one.
- Selection: Recall@10 (fusion, recommendation) instead of the validation loss.
- The reply's loss leaves the context out (Eq. 1). `max_reply` bounds training and decoding alike (published: 183, 50).
  Replies are learned and written after a plan, which the paper does not have.
- The rank of Llama's adapter, its epochs and the lengths of its texts are not published: rank 8, 3 epochs, 150 + 400
  tokens are ours. The prompt is plain text, without Llama's chat template; the first sentence is a real one.
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


def adamw(learning_rate: float, warmup: float) -> OptimConfig:
    """The optimiser of every stage: no clipping, linear warm-up and decay, AdamW in the published arithmetic."""
    return OptimConfig(learning_rate=learning_rate, warmup=warmup, clip=None, eps=1e-6, published=True)


config = Config(
    name="redial_paper",
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
    encoder=EncoderConfig(name="FacebookAI/roberta-base", turn_tokens=200),
    language_model="microsoft/DialoGPT-small",
    recommender=dataclasses.replace(
        presets.paper(768),
        max_tokens=200,
        max_states=200,
        max_entities=32,
        neighbours=128,
        cooccurring_items=1,  # only read by the co-occurrence head "mass" of `improved`
    ),
    emotion=EmotionConfig(train=TrainConfig(epochs=12, batch_size=256, optim=adamw(1e-3, 0.1))),
    fusion=FusionConfig(
        # 1,389 of about 13,000 updates warm up
        train=TrainConfig(epochs=10, batch_size=64, accumulation=4, seed=42, optim=adamw(5e-4, 0.11)),
        heads=presets.published_heads(),
    ),
    conversation=ConversationConfig(
        # 6,345 updates warm up: one epoch of ten
        train=TrainConfig(epochs=10, batch_size=8, seed=42, optim=adamw(1e-4, 0.1)),
        tune="nothing",
        max_reply=183,
    ),
    recommendation=RecommendationConfig(
        # 530 of 1,325 updates warm up
        train=TrainConfig(epochs=5, batch_size=128, accumulation=8, seed=8, optim=adamw(1e-4, 0.4)),
        candidates="entities",
    ),
    response=ResponseConfig(
        train=TrainConfig(epochs=3, batch_size=16, accumulation=4, seed=42, optim=adamw(5e-5, 0.1)),
        language_model="meta-llama/Llama-2-7b-chat-hf",
        classify_emotions=False,
        sentences=None,
        max_prompt=150,
        max_review=400,
    ),
    evaluation=EvaluationConfig(replies=256),
)

DIALOGPT = dataclasses.replace(
    config.response,
    train=TrainConfig(epochs=15, batch_size=16, seed=42, optim=adamw(1e-4, 0.38)),
    language_model="microsoft/DialoGPT-small",
    tune="model",
    learn_prompt=True,
    count_prompt_ngrams=True,
    max_review=150,
)
variants = {
    "dialogpt": dataclasses.replace(config, name="redial_paper_dialogpt", base="redial_paper", response=DIALOGPT),
}
