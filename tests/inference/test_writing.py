"""Writing candidates: prompts as in training, limits of slots, and independence of the rest of a batch."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from ecr_jax.data.acts import Act, ActName, Attribute
from ecr_jax.data.schema import MOVIE
from ecr_jax.features.plans import Fact, Plan, reply_prompt
from ecr_jax.features.tokenizer import DialogueTokenizer
from ecr_jax.inference import writing
from ecr_jax.inference.decoding import Decoding
from ecr_jax.inference.writing import (
    ChatWriter,
    EmotionalRequest,
    EmotionalWriter,
    Fluency,
    Generator,
    ReplyWriter,
    WriteRequest,
    batches,
    emotional_prompt,
    whole_sentences,
)
from ecr_jax.models.prompt import Prefix
from tests import tiny

# Few words, so that a random model writes slots often.
FEW = DialogueTokenizer.of(tiny.tokenizer("User: System: plan: recommend | about: films: , hello what else ?".split()))
TOKENIZER = DialogueTokenizer.of(tiny.tokenizer(tiny.WORDS))
MODEL = tiny.random_model(tiny.llama(TOKENIZER.vocabulary), scale=0.5)
RECOMMEND = (Act(ActName.RECOMMEND),)
FEW_MODEL = tiny.random_model(tiny.llama(FEW.vocabulary), scale=0.5)
CONTEXT = {"tokens": np.asarray(FEW.encode(["User: hello hello"])[0], np.int32)}
OTHER = {"tokens": np.asarray(FEW.encode(["User: what else ?"])[0], np.int32)}


def generator(columns=40, **settings):
    decoding = Decoding(**{"max_new": 24, "temperature": 1.0} | settings)
    return Generator(FEW_MODEL.module, {"params": FEW_MODEL.params}, FEW, decoding, columns)


def prefixes(contexts):
    """A prefix that depends on the first token of each context."""
    first = np.asarray([context["tokens"][1] for context in contexts], np.float32)[None, :, None, None, None]
    keys = np.sin(first * np.arange(1, 9)) * np.ones((1, len(contexts), 1, 2, 8), np.float32)
    return Prefix(jax.numpy.asarray(keys), jax.numpy.asarray(keys[..., ::-1]), np.ones((len(contexts), 2), bool))


def plan(count, recommended=None):
    return Plan(RECOMMEND, tuple(range(count)), count if recommended is None else recommended)


@pytest.mark.parametrize(("films", "recommended"), [(0, 0), (1, 1), (2, 2), (3, 1)])
def test_slots_are_limited_by_the_plan(films, recommended):
    writer = ReplyWriter(generator(), None, 24)
    (texts,) = writer.write([WriteRequest(CONTEXT, plan(films, recommended))], 16)
    counts = {text.count(MOVIE) for text in texts}
    assert max(counts) <= films
    ended = [text.count(MOVIE) for text in texts if len(text.split()) < 24]
    assert all(count >= recommended for count in ended)
    if films == 3:
        assert len(counts) > 1  # between the fewest and the most, the model decides


def test_without_a_limit_the_same_model_writes_more_slots():
    prompt = reply_prompt(FEW, CONTEXT["tokens"].tolist(), plan(1), 24)
    (texts,) = generator()([prompt], 16)
    assert max(text.count(MOVIE) for text in texts) > 1


@pytest.mark.slow
def test_candidates_depend_on_their_own_request_alone():
    writer = ReplyWriter(generator(), prefixes, 24)
    requests = [WriteRequest(CONTEXT, plan(1)), WriteRequest(OTHER, plan(2)), WriteRequest(OTHER, plan(1))]
    together = writer.write(requests, 5)
    assert [writer.write([request], 5)[0] for request in requests] == together
    assert writer.write([requests[0]] * 9, 5) == [together[0]] * 9
    greedy = ReplyWriter(generator(temperature=0.0), prefixes, 24)
    assert [texts[0] for texts in together] == [texts[0] for texts in greedy.write(requests, 1)]
    assert len(set(together[0])) > 2  # samples differ


def test_batches_have_few_sizes():
    assert [(len(batch), count) for batch, count in batches([1])] == [(1, 1)]
    assert list(batches([1, 2])) == [([1, 2, 2, 2, 2, 2, 2, 2], 2)]
    assert [count for _, count in batches(range(17))] == [8, 8, 1]
    assert list(batches("abcdefg", (1, 2, 4))) == [(list("abcd"), 4), (list("efgg"), 3)]
    assert list(batches([])) == []


REQUEST = EmotionalRequest(
    "Thief (1981)", ("Rain, Night",), (("director", "Michael Mann"),), "maybe Thief (1981) is for you .", "negative",
    "happy",
)  # fmt: skip


def test_the_emotional_prompt_holds_facts_and_feelings():
    text = TOKENIZER.tokenizer.decode(emotional_prompt(TOKENIZER, REQUEST, 64, chat=False))
    for part in ("Knowledge from KG:", "Michael Mann", "Seeker Feels:", "Tone:", "First Sentence: maybe Thief"):
        assert part in text
    neutral = EmotionalRequest(REQUEST.title, (), (), REQUEST.first_sentence)
    text = TOKENIZER.tokenizer.decode(emotional_prompt(TOKENIZER, neutral, 64, chat=False))
    assert "Feels" not in text and "Tone" not in text


def test_a_long_prompt_loses_entities_then_facts_and_never_the_first_sentence():
    whole = emotional_prompt(TOKENIZER, REQUEST, 64, chat=False)
    without_entity = emotional_prompt(TOKENIZER, REQUEST, len(whole) - 1, chat=False)
    assert len(without_entity) < len(whole)
    text = TOKENIZER.tokenizer.decode(without_entity)
    assert "Michael Mann" in text and "Rain," not in text and "maybe Thief (1981) is for you ." in text
    without_facts = emotional_prompt(TOKENIZER, REQUEST, len(without_entity) - 1, chat=False)
    text = TOKENIZER.tokenizer.decode(without_facts)
    assert "Michael" not in text and "maybe Thief (1981) is for you ." in text
    short = emotional_prompt(TOKENIZER, REQUEST, 5, chat=False)
    assert short == [*without_facts[:4], without_facts[-1]]


def test_a_chat_model_reads_its_template():
    tokenizer = tiny.tokenizer(tiny.WORDS)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} <end> {% endfor %}System:"
    chat = DialogueTokenizer.of(tokenizer)
    ids = emotional_prompt(chat, REQUEST, 128, chat=True)
    assert ids[-1:] == chat.opening() and ids.count(chat.end) == 2
    with pytest.raises(ValueError, match="has no chat template"):
        emotional_prompt(TOKENIZER, REQUEST, 128, chat=True)


def test_a_chat_that_is_too_long_loses_its_first_turns(monkeypatch):
    tokenizer = tiny.tokenizer(tiny.WORDS)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}System:"
    chat = DialogueTokenizer.of(tokenizer)
    monkeypatch.setattr(
        writing.Generator, "__call__", lambda self, prompts, n: [[tokenizer.decode(ids)] * n for ids in prompts]
    )
    writer = ChatWriter(Generator(MODEL.module, {"params": MODEL.params}, chat, Decoding(), max_prompt=6))
    told = {"role": "system", "content": "you should"}
    turns = [{"role": "user", "content": text} for text in ("hello", "what what", "liked")]
    ((whole,), (cut,)) = writer.write([[told, turns[0], turns[2]], [told, *turns]], 1)
    assert "hello" in whole and "liked" in whole
    assert "you should" in cut and "hello" not in cut and "what what liked" in cut
    with pytest.raises(ValueError, match="there is room for 6"):
        writer.write([[told, {"role": "user", "content": "liked " * 9}]], 1)


def test_emotional_responses_are_whole_sentences(monkeypatch):
    words = Generator(MODEL.module, {"params": MODEL.params}, TOKENIZER, Decoding(), 48)
    writer = EmotionalWriter(words, chat=False)
    monkeypatch.setattr(writing.Generator, "__call__", lambda self, prompts, n: [["good . then", "a"]] * len(prompts))
    assert writer.write([REQUEST] * 2, 2) == [["good .", "a"]] * 2


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Thr", "One. Two!"),
        ("One?", "One?"),
        ("no end at all", "no end at all"),
        (" a  b.\n c", "a b."),
        ("", ""),
        ("... and", "..."),
    ],
)
def test_whole_sentences(text, sentences):
    assert whole_sentences(text) == sentences


@pytest.mark.slow
def test_fluency_is_the_mean_loss_of_each_token():
    texts = ["hello i liked that", "what", "", "you should see Ronin tonight ."]
    losses, tokens = Fluency(MODEL.module, MODEL.params, TOKENIZER, max_tokens=8)(texts)
    assert tokens.tolist() == [len(ids) for ids in TOKENIZER.encode(texts)]
    for text, loss in zip(texts, losses, strict=True):
        ids = np.asarray([[TOKENIZER.end, *TOKENIZER.encode([text])[0]]])
        if ids.shape[1] == 1:
            assert np.isinf(loss)
            continue
        hidden = MODEL.module.apply({"params": MODEL.params}, ids, np.ones_like(ids, bool)).hidden[0]
        scores = jax.nn.log_softmax(hidden @ MODEL.params["embed"]["embedding"].T)
        expected = -np.mean([scores[at, token] for at, token in enumerate(ids[0, 1:])])
        assert np.isclose(loss, expected, rtol=1e-5)


def test_the_prompt_of_a_plan_keeps_what_fits():
    facts = (Fact(0, Attribute.DIRECTOR, ("Michael Mann",)), Fact(0, Attribute.CAST, ("Robert De Niro",)))
    whole = reply_prompt(TOKENIZER, [5, 6], Plan(RECOMMEND, (3,), 1, facts), 64)
    assert whole[:2] == [5, 6] and whole[-1:] == TOKENIZER.opening()
    short = reply_prompt(TOKENIZER, [5, 6], Plan(RECOMMEND, (3,), 1, facts), len(whole) - 4)
    assert short == reply_prompt(TOKENIZER, [5, 6], Plan(RECOMMEND, (3,), 1, facts[:1]), 64)
    assert reply_prompt(TOKENIZER, [], Plan(RECOMMEND, (3,), 1), 3) is None


def test_where_a_plan_does_not_fit_nothing_is_written():
    writer = ReplyWriter(generator(), None, max_plan=8)
    long = WriteRequest(CONTEXT, plan(6))
    one, none, other = writer.write([WriteRequest(CONTEXT, plan(1)), long, WriteRequest(OTHER, plan(1))], 2)
    assert len(one) == len(other) == 2 and none == []
    assert writer.write([long], 2) == [[]]
