"""Stage `manager`: a language model that chooses the sub-task of a reply, and its arguments (after LLMCRS 3.1).

Data: recommender's turns that reply to a seeker, labelled with sub-tasks (`manager/labels.py`). Trains a LoRA adapter
to foretell the label from the dialogue before, within the closed set of the schema (`inference/trie.py`). Loss: the
negative log-probability of the label inside the trie; rare sub-tasks weigh more, by one over the square root of their
frequency. Selects by the macro F1 of the sub-tasks on validation. Writes manager.json: accuracy and F1, beside always
the most frequent sub-task and, where it is trained, what the stage `acts` foretells.

`policy(experiment)` gives the choice as a policy: `sample` draws, `log_prob` scores with gradients; both are the same
distribution. A running dialogue is managed by a `Chooser`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import accuracy_score, f1_score

from ecr_jax.config.registry import StageSpec
from ecr_jax.data.acts import ActName
from ecr_jax.data.schema import Split
from ecr_jax.features.batch_spec import Batch, BatchSpec, Field
from ecr_jax.features.batches import Batches, InMemoryExamples, bucket_shapes
from ecr_jax.features.dialogues import Utterance, dialogues_of
from ecr_jax.features.instances import evenly_spaced
from ecr_jax.features.tokenizer import DialogueTokenizer, pad
from ecr_jax.files import write_json
from ecr_jax.inference import trie
from ecr_jax.inference.trie import Prompts, Sampled, TokenLogProbs, Trie
from ecr_jax.knowledge.attributes import with_genres
from ecr_jax.knowledge.graph import KnowledgeGraph
from ecr_jax.manager import annotation
from ecr_jax.manager.categories import categories
from ecr_jax.manager.labels import ManagedTurn, managed_turns
from ecr_jax.manager.prompts import Instructions, choice_tokens, prompt_tokens
from ecr_jax.manager.schema import Choice, Chosen, SubTask, choices, film_schema
from ecr_jax.models.hyperparameters import LoraConfig
from ecr_jax.models.lm.language_model import Params
from ecr_jax.models.sharding_rules import generator_rules
from ecr_jax.pretrained.language_models import Pretrained
from ecr_jax.runs.context import ExperimentContext
from ecr_jax.stages import acts, tuning
from ecr_jax.training.loop import fit
from ecr_jax.training.step import Loss, Tree

_WIDTH_STEP = 32
_DEMONSTRATED = 200
"""Conversations of the train split from which demonstrations are taken."""
_MORE_SUMMARY = 16
"""Tokens that the summary of a dialogue may have more than that of none."""


@dataclass(frozen=True, eq=False)
class Policy:
    """The choice of a sub-task as a distribution over the closed set of a schema's choices.

    Attributes:
      module: the language model.
      frozen: {"language_model": its base parameters}.
      adapter: settings of the trained adapter.
      trie: of the choices' tokens.
      schema: the sub-tasks.
      choices: N choices; an output is the index of one.
      tokenizer: of the language model.
      graph: of the dialogues' entities.
      instructions: what prompts hold beside the dialogue.
      max_tokens: most tokens of the dialogue in a prompt.
    """

    module: nn.Module
    frozen: Params
    adapter: LoraConfig
    trie: Trie
    schema: tuple[SubTask, ...]
    choices: tuple[Choice, ...]
    tokenizer: DialogueTokenizer
    graph: KnowledgeGraph
    instructions: Instructions
    max_tokens: int

    def prompt(self, turns: Sequence[Utterance]) -> list[int]:
        """Token ids of the prompt of a dialogue in which the seeker spoke last."""
        return prompt_tokens(self.tokenizer, turns, self.graph, self.schema, self.instructions, self.max_tokens)

    def prompts(self, dialogues: Sequence[Sequence[Utterance]], allowed: np.ndarray | None = None) -> Prompts:
        """The prompts of B dialogues, all of the same width unless one is longer than is usual.

        Args:
          dialogues: in which the seeker spoke last.
          allowed: bool [B, N], the choices of each; None allows all.
        """
        rows = [self.prompt(turns) for turns in dialogues]
        usual = len(self.prompt(())) + self.max_tokens + _MORE_SUMMARY
        width = padded_width(max(usual, *map(len, rows)))
        every = np.ones((len(rows), len(self.choices)), bool)
        return Prompts(*pad(rows, width), every if allowed is None else allowed)

    def allowing(self, sub_tasks: Sequence[str]) -> np.ndarray:
        """The choices of some sub-tasks: bool [N]."""
        return np.asarray([choice.sub_task in sub_tasks for choice in self.choices])

    def variables(self, params: Params, frozen: Params) -> Params:
        """The variables of the language model with trained parameters {"adapter": ...}."""
        return tuning.variables(params, frozen, self.adapter)

    def sample(
        self, params: Params, frozen: Params, prompts: Prompts, key: jax.Array | None, copies: int = 1
    ) -> Sampled:
        """Draws choices with their log-probabilities, see `trie.sample`; the most probable tokens where key is None."""
        return trie.sample(self.module, self.variables(params, frozen), self.trie, prompts, key, copies=copies)

    def log_prob(
        self, params: Params, frozen: Params, prompts: Prompts, outputs: Any, key: jax.Array | None = None
    ) -> jax.Array:
        """The log-probability of given choices, float32 [B], differentiable in `params`; `key` of the dropout."""
        return self.token_log_probs(params, frozen, prompts, outputs, key).log_probs.sum(axis=1)

    def token_log_probs(
        self, params: Params, frozen: Params, prompts: Prompts, outputs: Any, key: jax.Array | None = None
    ) -> TokenLogProbs:
        """The same of each token, see `trie.token_log_probs`."""
        module = self.module if key is None else self.module.clone(adapter_dropout=self.adapter.dropout)
        return trie.token_log_probs(
            module, self.variables(params, frozen), self.trie, prompts, jnp.asarray(outputs), key=key
        )


def padded_width(tokens: int) -> int:
    """The columns of a prompt of so many tokens: a multiple of 32, so that a handful of programs is compiled."""
    return -(-tokens // _WIDTH_STEP) * _WIDTH_STEP


def language_model(experiment: ExperimentContext) -> tuple[Pretrained, DialogueTokenizer]:
    """The stage's language model and its tokenizer."""
    return experiment.language_model(experiment.config.language_model, experiment.config.manager.layers)


def graph_of(experiment: ExperimentContext) -> KnowledgeGraph:
    """The corpus's graph with all genres of its film table."""
    return with_genres(experiment.corpus.graph, experiment.corpus.genres)


def schema_of(experiment: ExperimentContext) -> tuple[SubTask, ...]:
    """The sub-tasks, with the categories of the experiment's films."""
    return film_schema(categories(graph_of(experiment), experiment.config.manager.categories))


def policy(experiment: ExperimentContext) -> Policy:
    """The policy of an experiment's settings; its parameters are those that the stage trained, or a new adapter's."""
    settings = experiment.config.manager
    model, tokenizer = language_model(experiment)
    schema = schema_of(experiment)
    every = choices(schema)
    shown = demonstrations(experiment, settings.demonstrations)
    return Policy(
        module=model.module,
        frozen={"language_model": model.params},
        adapter=settings.adapter,
        trie=trie.build(choice_tokens(tokenizer, every), tokenizer.end),
        schema=schema,
        choices=every,
        tokenizer=tokenizer,
        graph=graph_of(experiment),
        instructions=Instructions(settings.schema, shown, settings.summary),
        max_tokens=settings.max_tokens,
    )


def trained(experiment: ExperimentContext) -> tuple[Policy, Params]:
    """The policy, and the parameters that the stage trained.

    Raises:
      ValueError: the stage is not trained.
    """
    return policy(experiment), jax.tree.map(jnp.asarray, experiment.params("manager"))


def demonstrations(experiment: ExperimentContext, count: int) -> tuple[tuple[tuple[Utterance, ...], Choice], ...]:
    """The first turn of each sub-task in the train split, at most `count`, in the order in which sub-tasks come up."""
    first: dict[str, ManagedTurn] = {}
    for turn in turns_of(experiment, Split.TRAIN, _DEMONSTRATED) if count else ():
        first.setdefault(turn.label.choice.sub_task, turn)
    return tuple((turn.before, turn.label.choice) for turn in list(first.values())[:count])


def turns_of(experiment: ExperimentContext, split: Split, most: int | None = None) -> list[ManagedTurn]:
    """The labelled replies of a split, without the emotions of their dialogues.

    Args:
      experiment: with the prepared corpus.
      split: of it.
      most: how many conversations to look at, the first; None for all.

    Raises:
      ValueError: see `annotation.load`.
    """
    graph, conversations = graph_of(experiment), experiment.corpus.split(split)[:most]
    dialogues = dialogues_of(conversations, graph.ids, graph.items, {})
    corpus, name = experiment.corpus, experiment.config.manager.labels
    annotated = None if name is None else annotation.load(annotation.folder_of(corpus.folder, name), corpus.manifest)
    return managed_turns(conversations, dialogues, graph, schema_of(experiment), annotated)


def spec_of(count: int) -> BatchSpec:
    """Examples of the stage: prompts with one of `count` choices."""
    return BatchSpec(
        "manager",
        (
            Field("tokens", np.int32, ("T",), 0, "token_mask", "token ids of the prompt"),
            Field("output", np.int32, (), below=count, meaning="the labelled choice"),
            Field("weight", np.float32, (), meaning="of the example in the loss, 1 on average"),
        ),
    )


def examples(policy: Policy, turns: Sequence[ManagedTurn]) -> InMemoryExamples:
    """One example for each turn, in their order."""
    places = {choice: place for place, choice in enumerate(policy.choices)}
    counts = Counter(turn.label.choice.sub_task for turn in turns)
    raw = [counts[turn.label.choice.sub_task] ** -0.5 for turn in turns]
    mean = sum(raw) / max(len(raw), 1)
    rows = [
        {
            "tokens": np.asarray(policy.prompt(turn.before), np.int32),
            "output": np.int32(places[turn.label.choice]),
            "weight": np.float32(weight / mean),
        }
        for turn, weight in zip(turns, raw, strict=True)
    ]
    return InMemoryExamples(spec_of(len(policy.choices)), rows)


def prompts_of(policy: Policy, batch: Batch) -> Prompts:
    """The prompts of a batch of the stage's examples; all choices are allowed."""
    rows = batch["tokens"].shape[0]
    # A row that is padding has no token, and so no place to read the first score from: any mask with one token will do.
    mask = jnp.asarray(batch["token_mask"]).at[:, 0].set(True)
    return Prompts(batch["tokens"], mask, jnp.ones((rows, len(policy.choices)), bool))


def choice_loss(policy: Policy) -> Loss:
    """The negative log-probability of the labelled choices inside the trie."""

    def loss(params: Tree, frozen: Tree, batch: Batch, key: jax.Array | None):
        log_probs = policy.log_prob(params, frozen, prompts_of(policy, batch), batch["output"], key)
        weight = batch["weight"] * batch["example_mask"]
        return -jnp.sum(log_probs * weight), jnp.sum(weight), {}

    return loss


def measure(truth: Sequence[str], found: Sequence[str]) -> dict[str, Any]:
    """Accuracy, macro F1 over the sub-tasks that occur, and the F1 of each."""
    occurs = sorted(set(truth))
    each = f1_score(truth, found, labels=occurs, average=None, zero_division=0)
    return {
        "turns": len(truth),
        "accuracy": float(accuracy_score(truth, found)),
        "macro_f1": float(np.mean(each)),
        "f1": dict(zip(occurs, map(float, each), strict=True)),
    }


def train(experiment: ExperimentContext, spec: StageSpec) -> None:
    """Trains the adapter and measures it on validation and test turns.

    Raises:
      ValueError: a split has no recommender's turn that replies to a seeker.
    """
    config, folder = experiment.config.manager, experiment.folder(spec)
    chosen = {split: turns_of(experiment, split) for split in Split}
    for split in (Split.TRAIN, Split.VALID):
        if not chosen[split]:
            raise ValueError(f"no recommender's turn of the {split.value} split replies to a seeker: nothing to learn")
    if config.train.steps is not None:
        chosen[Split.TRAIN] = evenly_spaced(chosen[Split.TRAIN], config.train.steps * config.train.batch_size)
    for split in (Split.VALID, Split.TEST):
        chosen[split] = evenly_spaced(chosen[split], config.valid_examples)
    manager = policy(experiment)
    model, _ = language_model(experiment)
    data = {split: examples(manager, turns) for split, turns in chosen.items() if turns}
    longest = padded_width(max(int(each.lengths()["T"].max()) for each in data.values()))
    sizes = sorted({max(_WIDTH_STEP, longest // 2), max(_WIDTH_STEP, 3 * longest // 4), longest})
    shapes = bucket_shapes(list(data.values()), {"T": sizes})
    size = config.train.batch_size

    loss = choice_loss(manager)
    forward = jax.jit(loss)
    batches_of = {split: Batches.in_order(each, shapes, size) for split, each in data.items()}

    def foretold(params, frozen, split: Split) -> list[str]:
        found = [""] * len(chosen[split])
        for batch in batches_of[split]:
            outputs = np.asarray(manager.sample(params, frozen, prompts_of(manager, batch), None).outputs)
            for row in np.flatnonzero(batch["example_mask"]):
                found[batch["example"][row]] = manager.choices[outputs[row]].sub_task
        return found

    def truth(split: Split) -> list[str]:
        return [turn.label.choice.sub_task for turn in chosen[split]]

    def evaluate(params, frozen) -> dict[str, float]:
        total = count = 0.0
        for batch in batches_of[Split.VALID]:
            one, weight, _ = forward(params, frozen, batch, None)
            total, count = total + float(one), count + float(weight)
        measured = measure(truth(Split.VALID), foretold(params, frozen, Split.VALID))
        return {"loss": total / count, "accuracy": measured["accuracy"], "macro_f1": measured["macro_f1"]}

    best = fit(
        folder,
        params=tuning.initial(experiment.key(spec), model, "adapter", config.adapter),
        frozen=manager.frozen,
        loss=loss,
        batches=Batches(data[Split.TRAIN], shapes, size, seed=config.train.seed),
        evaluate=evaluate,
        select="macro_f1",
        mode="max",
        config=config.train,
        rules=generator_rules(model.config),
        record=experiment.record(spec),
    ).params
    systems = {"manager": lambda split: foretold(best, manager.frozen, split),
               "majority": lambda split: [majority(chosen[Split.TRAIN])] * len(chosen[split])}  # fmt: skip
    if (experiment.folder("acts") / "params.safetensors").is_file():
        systems["acts"] = lambda split: by_acts(experiment, chosen[split], manager.schema)
    write_json(
        folder / "manager.json",
        {
            split.value: {
                **{name: measure(truth(split), found(split)) for name, found in systems.items()},
                "sources": dict(Counter(turn.label.source for turn in chosen[split])),
            }
            for split in (Split.VALID, Split.TEST)
            if chosen[split]
        },
    )


def majority(turns: Sequence[ManagedTurn]) -> str:
    """The most frequent sub-task of turns."""
    return Counter(turn.label.choice.sub_task for turn in turns).most_common(1)[0][0]


def by_acts(experiment: ExperimentContext, turns: Sequence[ManagedTurn], schema: Sequence[SubTask]) -> list[str]:
    """The sub-tasks that the stage `acts` foretells: the first whose act is probable, else the most probable one."""
    found = acts.labeller(experiment)([turn.before for turn in turns], experiment.turn_states)
    return [first_probable({act.name: p for act, p in each.reply.items()}, schema) for each in found]


def first_probable(likely: Mapping[ActName, float], schema: Sequence[SubTask]) -> str:
    """The first sub-task of the schema whose act has a probability of at least one half, else the most probable one."""
    own = {task.name: likely.get(task.act, 0.0) for task in schema}
    return next((name for name, p in own.items() if p >= 0.5), max(own, key=lambda name: own[name]))


class Chooser:
    """Chooses the sub-tasks of replies in running dialogues."""

    def __init__(self, policy: Policy, params: Params):
        """Args:
        policy: of the choices.
        params: its trained parameters, {"adapter": ...}.
        """
        self.policy = policy
        self._variables = tuning.variables(params, policy.frozen, policy.adapter, for_inference=True)

    @property
    def schema(self) -> tuple[SubTask, ...]:
        """The sub-tasks."""
        return self.policy.schema

    def choose(self, dialogues: Sequence[Sequence[Utterance]], allowed: Sequence[Sequence[str]]) -> list[Chosen]:
        """The most probable choice for each dialogue.

        Args:
          dialogues: in which the seeker spoke last.
          allowed: names of the sub-tasks that each reply may carry out, at least one.
        """
        masks = np.stack([self.policy.allowing(names) for names in allowed]) if allowed else np.zeros((0, 0), bool)
        alone = masks.sum(axis=1) == 1  # nothing to choose, and nothing to read
        chosen = [
            Chosen(self.policy.choices[int(mask.argmax())]) if one else None
            for mask, one in zip(masks, alone, strict=True)
        ]
        for row in np.flatnonzero(~alone):  # one by one: one program, and the cache of one prompt's choices in memory
            prompts = self.policy.prompts([dialogues[row]], masks[row : row + 1])
            scores = trie.all_log_probs(self.policy.module, self._variables, self.policy.trie, prompts)
            chosen[row] = self._best(np.asarray(scores[0]))
        return [made for made in chosen if made is not None]

    def _best(self, log_probs: np.ndarray) -> Chosen:
        order = np.argsort(-log_probs, kind="stable")[:3]
        listed = tuple((self.policy.choices[place], float(np.exp(log_probs[place]))) for place in order)
        return Chosen(listed[0][0], tuple(pair for pair in listed if pair[1] > 0))
