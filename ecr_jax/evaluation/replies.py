"""Text metrics of the recommendation responses of a run, measures of its whole replies, and sample replies to show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.progress import track

from ecr_jax.data.schema import Role, Split
from ecr_jax.evaluation import text_metrics
from ecr_jax.evaluation.perplexity import reply_losses
from ecr_jax.evaluation.reply_measures import Judged, measure_replies
from ecr_jax.evaluation.report import SampleReply
from ecr_jax.evaluation.rows import ReportRow
from ecr_jax.evaluation.significance import interval, resample
from ecr_jax.evaluation.system_replies import Place, SystemReply
from ecr_jax.features.instances import conversation_instances, evenly_spaced, recommendation_instances
from ecr_jax.features.tokenizer import with_role
from ecr_jax.inference.agent import Agent
from ecr_jax.inference.plain import plain_reply
from ecr_jax.stages import emotion_model, response

HUMAN = "human"
"""The name of the corpus's own turns among the systems."""

_AT_ONCE = 8
"""Replies that are written together."""

_MIN_CONTEXT_TURNS = 3
"""Turns before a sample reply; after fewer there is hardly a conversation to reply to."""


def response_metrics(agent: Agent, split: Split, console: Console) -> list[ReportRow]:
    """Text metrics of the recommendation responses u^r in place of `evaluation.replies` recommender turns.

    BLEU has intervals, which resample whole dialogues.
    """
    config, dialogues = agent.config, agent.experiment.dialogues(split)
    instances = evenly_spaced(conversation_instances(dialogues), config.evaluation.replies)
    if not instances:
        return []
    by_turn = agent.recommendation_responder.of_turns(split, dialogues, instances, console)
    responses = [by_turn[dialogues[instance.dialogue].id, instance.turn] for instance in instances]
    references = [dialogues[instance.dialogue].turns[instance.turn].masked for instance in instances]
    draws = resample(
        [dialogues[instance.dialogue].id for instance in instances], config.evaluation.resamples, config.seed
    )
    bleu = text_metrics.bleu_scores(responses, references)
    intervals = {
        f"bleu@{order}": interval(samples)
        for order, samples in zip(text_metrics.ORDERS, draws.means(bleu).T, strict=True)
    }
    rows = []
    for metric, value in text_metrics.measure(responses, references).items():
        low, high = intervals.get(metric) or (None, None)
        rows.append(ReportRow("ecr", config.corpus.label, split.value, "all", metric, value, low, high, len(responses)))
    return rows


def system_replies(agent: Agent, split: Split, console: Console) -> list[SystemReply]:
    """Whole replies in place of `evaluation.whole_replies` recommender turns, and the turns themselves.

    The systems are the run ("ecr"), its two parts alone ("ecr u^r", "ecr u^e", the latter where it says anything), the
    standard reply to the same plan, which no model writes ("plain"), and the corpus's own turn ("human").
    """
    experiment = agent.experiment
    dialogues, graph = experiment.dialogues(split), experiment.corpus.graph
    reviewed = {review.film for review in experiment.corpus.reviews.of_split(Split.TRAIN)}
    instances = [
        instance
        for instance in conversation_instances(dialogues)
        if dialogues[instance.dialogue].turns[instance.turn - 1].role == Role.SEEKER
    ]
    instances = evenly_spaced(instances, agent.config.evaluation.whole_replies)
    written = []
    batches = [instances[start : start + _AT_ONCE] for start in range(0, len(instances), _AT_ONCE)]
    for batch in track(batches, "replies", console=console, transient=True):
        contexts = [dialogues[instance.dialogue].turns[: instance.turn] for instance in batch]
        replies = agent.replies(contexts, states=experiment.turn_states)
        for instance, context, reply in zip(batch, contexts, replies, strict=True):
            dialogue = dialogues[instance.dialogue]
            turn = dialogue.turns[instance.turn]
            told = tuple(dict.fromkeys(e for e in turn.entities if graph.kinds[e] == "film"))  # what the person names
            seen = graph.uris[reply.items[0]] in reviewed if reply.items else None
            said = {before.text for before in context if before.role == Role.RECOMMENDER}
            plain = plain_reply(reply.decision, graph, instance.dialogue, said)
            texts = {"ecr": reply.text, "ecr u^r": reply.recommendation, "ecr u^e": reply.emotional, "plain": plain}
            for system, text in (texts | {HUMAN: turn.text}).items():
                own = system != HUMAN
                films = reply.items if own else told
                if text or system != "ecr u^e":
                    written.append(
                        SystemReply(
                            dialogue.id,
                            instance.turn,
                            system,
                            tuple((before.role.value, before.text) for before in context),
                            text,
                            tuple(graph.title(film) for film in films),
                            tuple(graph.uris[film] for film in films),
                            reply.facts if own else (),
                            heard=reply.plan.heard if own else "",
                            tone=reply.plan.tone if own else "",
                            seen=seen,
                            reference=turn.text if own else None,
                        )
                    )
    return written


def judged(agent: Agent, replies: Sequence[SystemReply]) -> Judged:
    """What the run's emotion classifier and its frozen language model say of replies."""
    experiment = agent.experiment
    texts = [reply.reply for reply in replies]
    emotions = emotion_model.classify(experiment, [with_role(Role.SEEKER, text) for text in texts])
    model, tokenizer = response.language_model(experiment)
    losses, tokens = reply_losses(model, tokenizer, [reply.context for reply in replies], texts)
    return Judged(emotions, losses, tokens)


def reply_measures(agent: Agent, replies: Sequence[SystemReply], split: Split) -> list[ReportRow]:
    """`reply_measures.measure_replies` of what `judged` says.

    The emotions that a reply should show are those that the classifier hears in the corpus's turn in its place.
    """
    if not replies:
        return []
    config, corpus, of_replies = agent.config, agent.experiment.corpus, judged(agent, replies)
    return measure_replies(
        replies,
        corpus.graph,
        corpus.linker,
        of_replies,
        targets=target_emotions(replies, of_replies),
        corpus=config.corpus.label,
        split=split.value,
        resamples=config.evaluation.resamples,
        seed=config.seed,
    )


def target_emotions(replies: Sequence[SystemReply], of_replies: Judged) -> dict[Place, np.ndarray]:
    """The emotions that replies should show: those that the classifier hears in the corpus's turns."""
    return {r.place: shown for r, shown in zip(replies, of_replies.emotions, strict=True) if r.system == HUMAN}


def sample_replies(agent: Agent, split: Split) -> list[SampleReply]:
    """`evaluation.samples` replies in place of recommender turns that recommend films."""
    experiment = agent.experiment
    dialogues, graph = experiment.dialogues(split), experiment.corpus.graph
    instances = [instance for instance in recommendation_instances(dialogues) if instance.turn >= _MIN_CONTEXT_TURNS]
    instances = evenly_spaced(instances, agent.config.evaluation.samples)
    if not instances:
        return []
    contexts = [dialogues[instance.dialogue].turns[: instance.turn] for instance in instances]
    replies = agent.replies(contexts, states=experiment.turn_states)
    return [
        SampleReply(
            context=tuple((turn.role.value, turn.text) for turn in context),
            items=tuple(graph.title(item) for item in reply.items),
            response=reply.recommendation,
            emotional=reply.emotional,
            reference=dialogues[instance.dialogue].turns[instance.turn].text,
        )
        for instance, context, reply in zip(instances, contexts, replies, strict=True)
    ]
