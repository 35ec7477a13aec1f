"""Decoding against a loop without a cache: choices, padding, keys, ends, streams, adapters; and what it compiles."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.inference.decoding import Decoding, Slots, advance, generate, pad_left, prefill, stream
from ecr_jax.models.lm import convert, gpt2
from ecr_jax.models.lm.language_model import logits, unstack
from tests import tiny
from tests.inference.repeats import completes
from tests.models.published import Published

VOCAB, NEVER = 12, 99
MODEL = tiny.random_model(tiny.llama(VOCAB, layers=2), scale=0.6)
VARIABLES = {"params": MODEL.params}
PROMPTS = [[1, 2, 3, 4, 5], [6, 7], [8]]
WIDTH, NEW = 8, 8
PREFIX = tuple(jnp.asarray(np.random.default_rng(i).normal(size=(2, 3, 1, 2, 8)), jnp.float32) for i in (1, 2))
SEEN = np.array([[True, True], [True, False], [False, False]])


def keys(*numbers):
    return jnp.stack([jax.random.key(number) for number in numbers])


def letters(ids):
    return "".join("abcdefghijkl"[token] for token in ids)


def arguments(rows=(0, 1, 2), width=WIDTH, side="left", prompts=PROMPTS):
    """What to continue: these rows of the prompts, padded to either side, with their prefixes."""
    rows = list(rows)
    tokens, mask = pad_left([prompts[row] for row in rows], width)
    if side == "right":
        tokens, mask = (
            np.stack([np.roll(a, len(prompts[r]) - width) for a, r in zip(x, rows, strict=True)])
            for x in (tokens, mask)
        )
    return (MODEL.module, VARIABLES, tokens, mask), dict(
        prefix=tuple(part[:, rows] for part in PREFIX), prefix_mask=SEEN[rows]
    )


def run(rows=(0, 1, 2), *, end=NEVER, keys=None, limits=None, decode=None, width=WIDTH, side="left", **decoding):
    inputs, prefix = arguments(rows, width, side)
    settings = Decoding(**{"max_new": NEW, **decoding})
    return generate(*inputs, decoding=settings, end=end, keys=keys, limits=limits, decode=decode, **prefix)


def generated(*args, **kwargs):
    return run(*args, **kwargs).tokens.tolist()


WIDE = 16


@jax.jit
def forward(tokens, mask, prefix, seen):
    return logits(MODEL.params, MODEL.module.apply(VARIABLES, tokens, mask, prefix, seen).hidden)


def naive(row, steps=NEW, change=lambda scores, prompt, output: None, ends=(NEVER,)):
    """Greedy choice over the whole text again for every token; right-padded, so that shapes stay."""
    prompt, output = PROMPTS[row], []
    while len(output) < steps:
        text = prompt + output
        tokens = np.zeros((1, WIDE), np.int32)
        tokens[0, : len(text)] = text
        mask = np.arange(WIDE)[None] < len(text)
        scores = np.array(forward(tokens, mask, tuple(p[:, row : row + 1] for p in PREFIX), SEEN[row : row + 1]))
        scores = scores[0, len(text) - 1]
        change(scores, prompt, output)
        output.append(int(scores.argmax()))
        if output[-1] in ends:
            return output + [ends[0]] * (steps - len(output))
    return output


def test_greedy_equals_the_naive_loop():
    expected = [naive(row) for row in range(3)]
    result = run()
    assert result.tokens.tolist() == expected and result.tokens.dtype == np.int32 and result.texts is None
    assert len({tuple(row) for row in expected}) == 3


@pytest.mark.parametrize("prompt_too", [False, True])
def test_no_repeat_equals_the_naive_loop(prompt_too):
    def forbid(scores, prompt, output):
        scores[list(completes(prompt * prompt_too + output, 1))] = -np.inf

    # every row's own prompt and output; of VOCAB tokens enough are left
    steps = NEW if not prompt_too else 6
    actual = generated(no_repeat_ngram=1, count_prompt_ngrams=prompt_too)
    for row in range(3):
        assert actual[row][:steps] == naive(row, steps, forbid)
        assert len(set(actual[row][:steps])) == steps
        assert bool(set(actual[row][:steps]) & set(PROMPTS[row])) <= (not prompt_too)


def test_repetition_penalty_equals_the_naive_loop():
    def penalise(scores, prompt, output):
        for token in {*prompt, *output}:
            scores[token] *= 1.7 if scores[token] < 0 else 1 / 1.7

    assert generated(repetition_penalty=1.7) == [naive(row, change=penalise) for row in range(3)] != generated()


def test_side_of_the_padding_changes_nothing():
    settings = dict(repetition_penalty=1.2, temperature=0.8, keys=keys(1, 2, 3))
    assert generated(side="right") == generated()
    assert generated(side="right", **settings) == generated(**settings)
    holes, _ = arguments()
    tokens, mask = holes[2].copy(), holes[3].copy()
    tokens[0, :6], mask[0, :6] = [1, 9, 2, 9, 3, 4], [True, False, True, False, True, True]  # then 4, 5
    tokens[0, 5:], mask[0, 5:] = [4, 0, 5], [True, False, True]
    _, prefix = arguments()
    again = generate(MODEL.module, VARIABLES, tokens, mask, decoding=Decoding(max_new=NEW), end=NEVER, **prefix)
    assert again.tokens.tolist() == generated()


@pytest.mark.slow
def test_same_key_same_text_whatever_the_batch():
    settings = dict(temperature=1.3, top_p=0.95, min_p=0.01)
    whole = generated(keys=keys(1, 2, 3), **settings)
    assert generated((2, 0, 1), keys=keys(3, 1, 2), **settings) == [whole[2], whole[0], whole[1]]
    assert generated((1,), keys=keys(2), width=5, **settings) == [whole[1]]
    other = generated((0, 0, 0), keys=keys(1, 4, 5), **settings)
    assert other[0] == whole[0] and len({tuple(row) for row in other}) == 3
    assert {token for row in whole + other for token in row} <= set(range(VOCAB))
    # with next to no mass, one token or no heat only the most probable token is left
    for narrow in (dict(temperature=1.0, top_p=1e-6), dict(temperature=1.0, top_k=1), dict(temperature=1e-4)):
        assert generated(keys=keys(1, 2, 3), **narrow) == generated()


@pytest.mark.slow
def test_sampled_tokens_have_their_probabilities():
    """The second token of many replies to one prompt, against the probabilities that the model gives it."""
    count = 3000
    tokens, mask = pad_left([[1, 2]], 2)
    tokens, mask = np.repeat(tokens, count, axis=0), np.repeat(mask, count, axis=0)
    settings = Decoding(max_new=2, temperature=0.7)
    drawn = jax.random.split(jax.random.key(0), count)
    replies = generate(MODEL.module, VARIABLES, tokens, mask, decoding=settings, end=NEVER, keys=drawn).tokens
    first = np.bincount(replies[:, 0], minlength=VOCAB).argmax()
    actual = np.bincount(replies[replies[:, 0] == first, 1], minlength=VOCAB)
    whole = jax.jit(MODEL.module.apply)(VARIABLES, jnp.array([[1, 2, first]]), jnp.ones((1, 3), bool)).hidden
    expected = np.asarray(jax.nn.softmax(logits(MODEL.params, whole)[0, -1] / 0.7))
    error = np.sqrt(expected * (1 - expected) / actual.sum())
    assert actual.sum() > 300 and (np.abs(actual / actual.sum() - expected) < 5 * error + 1e-3).all()


def test_rows_end_at_their_ends_and_limits():
    free = generated()
    ends = (free[0][2], free[1][4])
    ended = generated(end=ends)
    assert ended == [naive(row, ends=ends) for row in range(3)] != free
    limited = generated(limits=[3, 8, 1])
    assert limited == [row[:n] + [NEVER] * (NEW - n) for row, n in zip(free, (3, 8, 1), strict=True)]


def test_no_end_before_the_least_length():
    end = generated()[0][0]
    actual = generated(end=end, min_new=3)

    def forbid(scores, prompt, output):
        scores[end] = -np.inf if len(output) < 3 else scores[end]

    assert actual == [naive(row, change=forbid, ends=(end,)) for row in range(3)]
    assert all(end not in row[:3] for row in actual)


def test_the_loop_stops_when_all_rows_are_done():
    (module, variables, tokens, mask), prefix = arguments((0,), width=5)
    end = generated((0,), width=5)[0][0]
    pieces = list(
        stream(module, variables, tokens, mask, decoding=Decoding(max_new=NEW), end=end, tokens_per_piece=5, **prefix)
    )
    assert [piece.tokens.tolist() for piece in pieces] == [[[end]]]
    assert generated((0,), width=5, end=end) == [[end] * NEW]


def test_prefix_matters_where_it_is_seen():
    (module, variables, tokens, mask), prefix = arguments()
    hidden = dict(prefix, prefix_mask=np.zeros((3, 2), bool))
    unseen = generate(module, variables, tokens, mask, decoding=Decoding(max_new=NEW), end=NEVER, **hidden).tokens
    seen = run().tokens
    assert (seen != unseen).any(axis=1).tolist() == [True, True, False]


@pytest.mark.parametrize("every", [1, 3])
def test_a_stream_is_the_reply_in_pieces(every):
    inputs, prefix = arguments()
    settings = dict(decoding=Decoding(max_new=NEW, temperature=0.9), keys=keys(1, 2, 3), end=5, decode=letters)
    whole = generate(*inputs, **settings, **prefix)
    pieces = list(stream(*inputs, **settings, tokens_per_piece=every, **prefix))
    joined = np.concatenate([piece.tokens for piece in pieces], axis=1)
    assert max(piece.tokens.shape[1] for piece in pieces) == every
    np.testing.assert_array_equal(joined, whole.tokens[:, : joined.shape[1]])
    assert (whole.tokens[:, joined.shape[1] :] == 5).all()
    assert ["".join(texts) for texts in zip(*(piece.texts for piece in pieces), strict=True)] == whole.texts
    for row, text in zip(whole.tokens.tolist(), whole.texts, strict=True):
        assert text == letters(row).partition("f")[0]


def test_stop_strings_end_their_row_only():
    settings = dict(temperature=1.5, keys=keys(1, 2, 3), decode=letters)
    free = run(**settings)
    stop = free.texts[0][2:4]
    assert stop not in free.texts[0][:3]
    result = run(stop=(stop, "zz"), **settings)
    for row in range(3):
        before, stop_found, _ = free.texts[row].partition(stop)
        assert result.texts[row] == before
        length = len(before) + len(stop_found)
        assert result.tokens[row].tolist() == free.tokens[row, :length].tolist() + [NEVER] * (NEW - length)
    inputs, prefix = arguments()
    decoding = Decoding(max_new=NEW, temperature=1.5, stop=(stop, "zz"))
    pieces = list(stream(*inputs, decoding=decoding, end=NEVER, keys=settings["keys"], decode=letters, **prefix))
    assert ["".join(texts) for texts in zip(*(piece.texts for piece in pieces), strict=True)] == result.texts


def test_one_program_serves_all_settings():
    """Numbers, keys, limits, ends, prompts, streams and stop strings: none of them compiles again."""
    run()
    compiled = prefill._cache_size(), advance._cache_size()
    run(temperature=0.5, top_k=3, top_p=0.8, min_p=0.1, repetition_penalty=1.4, min_new=2, keys=keys(7, 8, 9))
    run((2, 1, 1), side="right", end=3, limits=[1, 2, 8])
    run(decode=letters, stop=("q", "aa"))
    inputs, prefix = arguments()
    for every in (1, 2):
        settings = dict(decoding=Decoding(max_new=NEW, temperature=1.0), end=2, keys=keys(1, 2, 3))
        list(stream(*inputs, **settings, tokens_per_piece=every, **prefix))
    assert (prefill._cache_size(), advance._cache_size()) == compiled


@functools.cache
def adapters():
    """Three adapters of the queries and the downward projection, stacked over layers."""
    rng = np.random.default_rng(5)

    def one():
        sizes = {("attention", "q"): (16, 16), ("mlp", "down"): (24, 16)}
        return {
            "layers": {
                block: {name: {"a": rng.normal(size=(2, i, 3)).astype(np.float32) * 0.3,
                               "b": rng.normal(size=(2, 3, o)).astype(np.float32) * 0.3}}
                for (block, name), (i, o) in sizes.items()
            }
        }  # fmt: skip

    return [one() for _ in range(3)]


def merged(adapter):
    """The parameters with a b added to the kernels."""
    layers = jax.tree.map(lambda leaf: leaf, MODEL.params["layers"])
    for block, names in adapter["layers"].items():
        for name, low in names.items():
            layers[block][name] = {"kernel": layers[block][name]["kernel"] + low["a"] @ low["b"]}
    return {"params": {**MODEL.params, "layers": layers}}


@pytest.mark.slow
def test_one_adapter_a_row_equals_merged_weights():
    (module, variables, tokens, mask), prefix = arguments()
    settings = dict(decoding=Decoding(max_new=NEW), end=NEVER, **prefix)
    apart = [generate(module, merged(adapter), tokens, mask, **settings).tokens for adapter in adapters()]
    assert len({tuple(rows[0].tolist()) for rows in apart}) == 3
    each = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *adapters())  # [L, B, ...]
    mixed = generate(module, {**variables, "lora": each}, tokens, mask, **settings).tokens
    np.testing.assert_array_equal(mixed, np.stack([apart[row][row] for row in range(3)]))


@pytest.mark.slow
def test_generation_equals_the_published_code(golden):
    published = Published(golden)
    config = gpt2.Gpt2Config(300, 64, 2, 4, 256, positions=64)
    weights = {name.removeprefix("gpt2/"): published[name] for name in published.arrays if name.startswith("gpt2/")}
    variables = {"params": convert.from_hf(weights, config)}
    prompt = published["out/conv/prompt_embeds"]
    for name, seen in (("noprompt", False), ("conv_prompt", True)):
        actual = generate(
            gpt2.Gpt2(config), variables, published["gen/input_ids"], published["gen/attention_mask"],
            decoding=Decoding(max_new=20, no_repeat_ngram=3, count_prompt_ngrams=True), end=297,
            prefix=(prompt[:, 0], prompt[:, 1]), prefix_mask=np.full((4, prompt.shape[4]), seen),
        )  # fmt: skip
        np.testing.assert_array_equal(actual.tokens, published[f"gen/{name}/ngram3"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(temperature=1.0), "temperature=1.0 samples: give keys, one a row"),
        (dict(temperature=1.0, keys=keys(1)), r"keys \(1,\) must be \[3\], one a row"),
        (dict(limits=[1, 2]), r"limits=\[1, 2\] must be 3 numbers from 1 to max_new=8"),
        (dict(limits=[1, 2, 9]), "from 1 to max_new=8"),
        (dict(limits=[0, 2, 3]), "from 1 to max_new=8"),
        (dict(end=()), "give the id of the token that ends a reply"),
        (dict(stop=("a",)), r"stop=\('a',\) needs `decode`"),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        run(**wrong)


def test_prompts_that_cannot_be_continued():
    module, tokens = MODEL.module, np.zeros((2, 4), np.int32)
    mask = np.array([[True] * 4, [False] * 4])
    with pytest.raises(ValueError, match="prompt 1 is empty; give it at least one token"):
        generate(module, VARIABLES, tokens, mask, decoding=Decoding(), end=NEVER)
    with pytest.raises(ValueError, match=r"prompts \(2, 4\) and their mask \(2, 3\) must both be \[batch, tokens\]"):
        generate(module, VARIABLES, tokens, mask[:, :3], decoding=Decoding(), end=NEVER)
    tokens, mask = pad_left([[1] * 3, [1] * 449], 450)
    message = (
        r"prompts padded to 450 tokens \(the longest, number 1, has 449\) and 64 new ones need 514 positions, but this "
        r"model has 512: shorten the prompts and their padding to 448 tokens, or generate fewer new ones"
    )
    with pytest.raises(ValueError, match=message):
        stream(module, VARIABLES, tokens, mask, decoding=Decoding(), end=NEVER)  # before the first piece
    with pytest.raises(ValueError, match="tokens_per_piece=0 must be at least 1"):
        stream(module, VARIABLES, tokens, mask, decoding=Decoding(), end=NEVER, tokens_per_piece=0)


def test_pad_left():
    tokens, mask = pad_left([[1, 2, 3], [5], []], 3)
    assert tokens.tolist() == [[1, 2, 3], [0, 0, 5], [0, 0, 0]] and tokens.dtype == np.int32
    assert mask.tolist() == [[True] * 3, [False, False, True], [False] * 3]
    with pytest.raises(ValueError, match="prompt 1 has 4 tokens and there is room for 3"):
        pad_left([[1], [1, 2, 3, 4]], 3)


@pytest.mark.slow
@pytest.mark.parametrize("stacked", [True, False])
def test_copies_read_their_prompt_once_and_write_as_if_alone(stacked):
    (module, variables, tokens, mask), prefix = arguments()
    variables = variables if stacked else {"params": unstack(variables["params"])}
    settings = dict(decoding=Decoding(max_new=NEW, temperature=1.0), end=NEVER)
    drawn = keys(*range(6))
    together = generate(module, variables, tokens, mask, keys=drawn, copies=2, **settings, **prefix).tokens
    rows = np.repeat(np.arange(3), 2)
    (_, _, *inputs), repeated = arguments(rows)
    apart = generate(module, variables, *inputs, keys=drawn, **settings, **repeated).tokens
    assert together.tolist() == apart.tolist()
    assert together[0].tolist() != together[1].tolist()


def test_greedy_rows_beside_samples():
    rows, temperature = [0, 0, 1], 1.5
    (module, variables, tokens, mask), prefix = arguments(rows)
    settings = Decoding(max_new=NEW, temperature=temperature)
    greedy = np.array([True, False, True])
    mixed = generate(
        module, variables, tokens, mask, decoding=settings, end=NEVER, keys=keys(1, 2, 3), greedy=greedy, **prefix
    ).tokens.tolist()
    assert [mixed[0], mixed[2]] == generated((0, 1))
    assert mixed[1] == generated((0,), temperature=temperature, keys=keys(2))[0]


def test_slots_are_counted_in_the_output_alone():
    """Token 5 is in the prompt of row 0 and likely everywhere: it comes at most as often as allowed, and no row ends
    before it came as often as it must."""
    (module, variables, tokens, mask), prefix = arguments()
    head = variables["params"]["head"] if "head" in variables["params"] else variables["params"]["embed"]["embedding"]
    assert head.shape[0] == VOCAB
    settings = dict(decoding=Decoding(max_new=NEW, temperature=3.0), keys=keys(1, 2, 3), **prefix)
    free = generate(module, variables, tokens, mask, end=NEVER, **settings).tokens
    slot = int(np.bincount(free.ravel()).argmax())  # a token that is written often
    most = np.array([0, 1, 2])
    limited = generate(
        module, variables, tokens, mask, end=NEVER, slots=Slots(slot, np.zeros(3, int), most), **settings
    ).tokens
    assert ((limited == slot).sum(axis=1) <= most).all() and (free == slot).sum() > most.sum()
    fewest = np.array([2, 1, 1])
    ends = [token for token in range(VOCAB) if token != slot]  # every other token would end a row
    ended = generate(module, variables, tokens, mask, end=ends, slots=Slots(slot, fewest, fewest), **settings).tokens
    assert all(row[:count].tolist() == [slot] * count for row, count in zip(ended, fewest, strict=True))


def test_the_last_rows_of_a_prompt_are_cut_where_enough_have_ended():
    (module, variables, tokens, mask), prefix = arguments()
    settings = dict(decoding=Decoding(max_new=NEW), end=NEVER, keys=keys(*range(9)), copies=3)
    limits = np.array([2, 5, 4, 6, 3, 3, 1, NEW, NEW])
    whole = generate(module, variables, tokens, mask, limits=limits, **settings, **prefix).tokens
    cut = generate(module, variables, tokens, mask, limits=limits, enough=2, **settings, **prefix).tokens
    lengths = np.minimum(limits, [4, 4, 4, 3, 3, 3, NEW, NEW, NEW])  # what two of the three of each prompt have
    assert all(row[:n].tolist() == of[:n].tolist() for row, of, n in zip(cut, whole, lengths, strict=True))
    assert all((row[n:] == NEVER).all() for row, n in zip(cut, lengths, strict=True))
    with pytest.raises(ValueError, match="enough=4 must be between 1 and copies=3"):
        generate(module, variables, tokens, mask, enough=4, **settings, **prefix)


def test_limits_of_another_number_of_rows_are_refused():
    (module, variables, tokens, mask), _ = arguments()
    settings = dict(decoding=Decoding(max_new=NEW), end=NEVER)
    with pytest.raises(ValueError, match=r"greedy has the shape \(3,\), and there are 6 rows"):
        generate(module, variables, tokens, mask, copies=2, greedy=np.ones(3, bool), **settings)
    with pytest.raises(ValueError, match=r"most has the shape \(2,\), and there are 3 rows"):
        generate(module, variables, tokens, mask, slots=Slots(1, np.zeros(3), np.ones(2)), **settings)
