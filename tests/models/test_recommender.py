"""The heads by hand, invariances of the whole recommender, and the published logits, losses and gradients."""

from __future__ import annotations

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecr_jax.config import presets
from ecr_jax.losses.ranking import cross_entropy
from ecr_jax.models.heads import LikeProbability, facts_of, mention_kind, ranking_scores
from ecr_jax.models.layers import candidate_columns, candidate_positions, last_state, recency, scatter_by_entity
from ecr_jax.models.recommender import Recommender
from tests.models.configs import SIZES, heads_config, prompt_config
from tests.models.published import MODES, name, per_example, published_run, stored
from tests.models.small_inputs import small_batch, small_graph, widen
from tests.models.small_recommender import (
    CONSTANTS,
    ITEMS,
    TRIPLES,
    facts,
    logits_of,
    random_params,
    recommender,
    scores_of,
    with_evidence,
    with_tokens,
)


def test_last_state():
    hidden = jnp.arange(12.0).reshape(2, 3, 2)
    mask = jnp.array([[1, 1, 0], [0, 0, 0]], bool)
    np.testing.assert_array_equal(last_state(hidden, mask), [[2, 3], [6, 7]])


def test_candidate_positions():
    positions, known = candidate_positions(jnp.array([[9, 4], [2, 11]]), jnp.asarray(ITEMS))
    np.testing.assert_array_equal(known, [[True, True], [False, False]])
    np.testing.assert_array_equal(positions[0], [3, 1])


def test_candidate_columns():
    np.testing.assert_array_equal(candidate_columns(jnp.asarray(ITEMS), 11), [4, 0, 4, 4, 1, 2, 4, 4, 4, 3, 4, 4])


def test_scatter_by_entity():
    ids, values = jnp.array([[[1, 1], [0, 9]]]), jnp.array([[[1.0, 2.0], [4.0, 8.0]]])
    np.testing.assert_array_equal(scatter_by_entity(ids, values, 3), [[4, 3, 0]])


def test_kinds_of_mentions():
    mentions = np.array([[1, 0, 1], [1, 0, 2], [1, 0, 9], [1, 1, 1], [2, 0, 1], [6, 1, 3], [99, 1, 3], [0, 0, 0]])
    np.testing.assert_array_equal(mention_kind(mentions, 6, 3), [0, 1, 2, 3, 6, 35, 35, 0])


def test_recency():
    mask = jnp.array([[1, 1, 1, 0], [0, 0, 0, 0]], bool)
    np.testing.assert_array_equal(recency(mask, 32), [[2, 1, 0, 0], [0, 0, 0, 0]])


PAIRS = [
    ("cooccurring_items", "cooccurrence_weights"),
    *((f"{name}_items", f"{name}_weights") for name in ("liked", "disliked", "nearest")),
]


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["improved", "summed"])
def test_padding_changes_nothing(preset):
    model = recommender(preset)
    batch = with_evidence(with_tokens(small_batch()))
    wide = {**batch, **widen(small_batch()), "tokens": np.pad(batch["tokens"], ((0, 0), (0, 3)), constant_values=5)}
    wide["token_mask"] = np.pad(batch["token_mask"], ((0, 0), (0, 3)))
    wide["valence"] = np.pad(batch["valence"], ((0, 0), (0, 2)))
    for items, weights in PAIRS:
        more = ((0, 0), (0, 2), (0, 3))[: batch[items].ndim - 1] + ((0, 3),)
        wide[items] = np.pad(batch[items], more, constant_values=11)
        wide[weights] = np.pad(batch[weights], more)
    once = logits_of(model, random_params(model), batch)
    assert once.shape == (3, 4)
    np.testing.assert_allclose(once, logits_of(model, random_params(model), wide), atol=1e-5)


def test_other_rows_change_nothing():
    model, batch = recommender(), with_evidence(with_tokens(small_batch()))
    together = logits_of(model, random_params(model), batch)
    for row in range(3):
        alone = logits_of(model, random_params(model), {key: array[row : row + 1] for key, array in batch.items()})
        np.testing.assert_allclose(together[row : row + 1], alone, atol=1e-5)


def test_heads_by_hand():
    """Without a query and a two-hop head, a logit is the prior, the mention's score and the co-occurrence mass."""
    model, batch = recommender("summed"), small_batch(rows=1, slots=3)
    batch["entities"][:] = [[4, 9, 4]]
    batch["neighbours"][:] = [[[5, 1], [5, 11], [9, 11]]]
    batch["neighbour_weights"][:] = [[[0.5, 0.25], [0.125, 0], [0.5, 0]]]
    params = random_params(model)
    head = jax.tree.map(jnp.zeros_like, params["head"])
    head["prior"]["scale"] = jnp.array(2.0)
    repetition, cooccurrence = head["repetition"], head["cooccurrence"]
    repetition["recency"] = repetition["recency"].at[:3].set([1.0, 10.0, 100.0])
    batch["mentions"][:] = [[[1, 1, 1], [1, 1, 1], [2, 0, 1]]]
    repetition["kind"] = repetition["kind"].at[mention_kind(np.array([2, 0, 1]), 6, 3)].set(1000.0)
    cooccurrence["scale"], cooccurrence["unit"] = jnp.array(3.0), jnp.log(8.0)
    cooccurrence["recency"] = cooccurrence["recency"].at[2].set(jnp.log(2.0))
    prior = jnp.arange(12.0)

    @jax.jit
    def run(params, batch):
        return model.apply({"params": params}, small_graph(), batch, ITEMS, item_prior=prior).logits[0]

    logits = run({**params, "head": head}, batch)
    mass = {1: 0.25 * 2, 4: 0, 5: 0.5 * 2 + 0.125, 9: 0.5}
    mentions = {1: 0, 4: 100 + 1 + 1000, 5: 0, 9: 10}
    expected = [2 * i + mentions[i] + 3 * np.log1p(8 * mass[i]) for i in ITEMS.tolist()]
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
    # longer rows of co-occurring films take the neighbours' place
    batch["cooccurring_items"], batch["cooccurrence_weights"] = (
        np.full((1, 3, 1), 4, np.int32),
        np.full((1, 3, 1), 0.25, np.float32),
    )
    moved = np.array(expected) - [3 * np.log1p(8 * mass[i]) for i in ITEMS.tolist()]
    moved[1] += 3 * np.log1p(8 * 0.25 * 4)
    np.testing.assert_allclose(run({**params, "head": head}, batch), moved, rtol=1e-5)


@pytest.mark.slow
def test_begins_as_the_mixture_alone():
    """What corrects it, and the feelings, begin at zero; so that training begins with the untrained hybrid."""
    model, batch = recommender(), with_evidence(with_tokens(small_batch()))
    batch["valence"] = np.abs(batch["valence"])  # dislike counts from the beginning
    init = functools.partial(model.init, **CONSTANTS)
    params = jax.jit(init)(jax.random.key(0), small_graph(), batch, ITEMS)["params"]
    logits = logits_of(model, params, batch)
    calm = {**batch, "emotions": np.full_like(batch["emotions"], 9), "valence": np.zeros_like(batch["valence"])}
    np.testing.assert_allclose(logits, logits_of(model, params, calm), rtol=1e-6)
    hated = logits_of(model, params, {**batch, "valence": np.full_like(batch["valence"], -0.9)})
    assert np.abs(hated - logits)[:2].max() > 0.1


def test_like_probability():
    model, batch = recommender(), with_evidence(with_tokens(small_batch()))
    params = random_params(model)
    scores = scores_of(model, params, batch)
    chance = jax.nn.sigmoid(scores.liking.total)
    expected = jax.nn.softmax(scores.logits) * (chance / (1 - chance)) ** 2.0
    np.testing.assert_allclose(jnp.exp(ranking_scores(scores, 2.0)), expected, rtol=1e-4)
    # emotions change whether a turn's film is liked, not which item is recommended, nor how films compare
    emotional = scores_of(model, params, {**batch, "emotion_totals": batch["emotion_totals"] + 1})
    np.testing.assert_array_equal(emotional.logits, scores.logits)
    assert np.abs(emotional.liking.turn - scores.liking.turn).min() > 0
    np.testing.assert_array_equal(emotional.liking.entities, scores.liking.entities)
    without = recommender(like_probability=False)
    assert scores_of(without, random_params(without), batch).liking is None


def like_probability(**changes):
    """The parts of three candidates for a context of two entities, with weights that are easy to follow."""
    arguments = {
        "text_states": jnp.zeros((1, 1, 2)),
        "text_mask": jnp.ones((1, 1), bool),
        "text_ages": jnp.ones((1, 1), int),
        "mentions": jnp.array([[[3, 1, 1], [2, 0, 1], [1, 0, 1]]]),  # the seeker's, and two of the recommender
        "entity_mask": jnp.array([[True, True, False]]),
        "item_odds": jnp.array([[0.5, 0.0, -0.5]]),
        "cooccurring": jnp.array([[[0, 1], [1, 3], [2, 2]]]),  # 3: no candidate
        "weights": jnp.array([[[0.5, 0.25], [0.5, 0.5], [0.0, 0.0]]]),
        "log_popularity": jnp.log(jnp.array([1.0, 4.0, 1.0])),
        "valence": jnp.array([[-0.5, 0.25, 0.0]]),
    } | changes
    params = {
        "logit": {"kernel": jnp.array([[0, 0, 0, 0, 2, 3]], jnp.float32).T, "bias": jnp.array([0.5])},
        "item_scale": 2.0, "entity_scale": 3.0, "entity_weight": 1.0, "unit": np.log(8.0),
    }  # fmt: skip
    if arguments["valence"] is not None:
        params["valence_weight"] = 2.0
    return LikeProbability().apply({"params": params}, **arguments)


def test_parts_of_the_like_probability_by_hand():
    parts = like_probability()
    np.testing.assert_allclose(parts.turn, [[0.5 + 2 * np.log(2) + 3 * np.log(2)]], rtol=1e-6)
    np.testing.assert_allclose(parts.item, [[1.0, 0.0, -1.0]])
    # weights 1 - 2 * 0.5 = 0 and 1 + 2 * 0.25 = 1.5: candidate 1 has 1.5 * 0.5, over sqrt 2 entities and sqrt 4
    np.testing.assert_allclose(parts.entities, [[0, 3 * np.arcsinh(8 * 0.75 / 2**0.5 / 2), 0]], rtol=1e-5)
    np.testing.assert_allclose(parts.total, parts.turn + parts.item + parts.entities)
    without = like_probability(valence=None)
    mass = np.array([0.5, (0.25 + 0.5) / 2, 0]) / 2**0.5
    np.testing.assert_allclose(without.entities, 3 * np.arcsinh(8 * mass)[None], rtol=1e-5)
    hated = like_probability(valence=jnp.array([[-1.0, -1.0, 0.0]]))  # weights -1
    np.testing.assert_allclose(hated.entities, -without.entities, rtol=1e-5)


def test_item_odds_leave_out_the_own_answers_of_a_row():
    model, batch = recommender(), with_evidence(with_tokens(small_batch()))
    params = random_params(model)
    rows = batch["entities"].shape[0]
    rated = np.full((rows, 2), 11, np.int32)
    rated[0] = [4, 2]  # 2 is no candidate
    shift = np.zeros((rows, 2), np.float32)
    shift[0] = [0.25, 8.0]
    before = scores_of(model, params, batch).liking
    after = scores_of(model, params, {**batch, "rated_items": rated, "own_odds_shift": shift}).liking
    expected = np.zeros((rows, len(ITEMS)))
    expected[0, 1] = 0.25 * params["head"]["like_probability"]["item_scale"]
    np.testing.assert_allclose(after.item - before.item, expected, atol=1e-6)


def test_facts_by_hand():
    collected = facts()
    half, third = 2**-0.5, 3**-0.5  # the director is in two triples, the genre in three
    rows = {
        1: ([7, 11], [0, 3], [half, 0]),
        4: ([7, 8], [0, 1], [half, third]),  # the rarer one first
        5: ([8, 11], [1, 3], [third, 0]),
        7: ([7, 11], [3, 3], [1, 0]),  # what is no item is its own fact
        2: ([2, 11], [3, 3], [1, 0]),
        11: ([11, 11], [3, 3], [0, 0]),
    }
    assert (
        collected.entities.shape == collected.types.shape == collected.weights.shape == (12, 2)
        and collected.relations == 3
    )
    for entity, (entities, types, weights) in rows.items():
        assert collected.entities[entity].tolist() == entities and collected.types[entity].tolist() == types
        np.testing.assert_allclose(collected.weights[entity], weights, rtol=1e-6)


def test_facts_keep_the_rarest():
    assert facts(most=1).entities[jnp.asarray(ITEMS), 0].tolist() == [7, 7, 8, 8]


def test_facts_are_read_in_either_direction():
    turned = facts_of(TRIPLES[:, ::-1], ITEMS, 11, 3, 2)
    jax.tree.map(np.testing.assert_array_equal, turned, facts())


def test_item_without_facts_and_loops():
    collected = facts_of(np.array([[1, 0, 1], [1, 0, 7], [1, 0, 7]]), ITEMS, 11, 3, 2)
    assert collected.entities[1].tolist() == [7, 11] and collected.entities[4].tolist() == [11, 11]
    assert not collected.weights[4].any()


def two_hop(mentions, change=lambda head: head):
    """Logits of the two-hop head alone, after these mentions; weights and unit are one unless `change` sets others."""
    model, batch = recommender("summed"), small_batch(rows=1, slots=3)
    batch["entities"][:] = 11
    batch["entities"][0, : len(mentions)] = mentions
    batch["entity_mask"][:] = np.arange(3) < len(mentions)
    batch["neighbour_weights"][:] = 0
    params = random_params(model)
    head = jax.tree.map(jnp.zeros_like, params["head"])
    head["two_hop"] = change(head["two_hop"] | {"scale": jnp.array(1.0)})
    return _two_hop(model, {**params, "head": head}, batch)


@functools.partial(jax.jit, static_argnums=0)
def _two_hop(model, params, batch):
    return model.apply({"params": params}, small_graph(), batch, ITEMS, facts=facts()).logits[0]


def test_two_hop_by_hand():
    # over the director to 4 and back to 1 itself
    np.testing.assert_allclose(two_hop([1]), np.arcsinh([1 / 2, 1 / 2, 0, 0]), rtol=1e-6)
    np.testing.assert_allclose(two_hop([4]), np.arcsinh([1 / 2, 1 / 2 + 1 / 3, 1 / 3, 1 / 3]), rtol=1e-6)
    # a genre that is named itself, a director and a film together, what joins nothing, and nothing at all
    np.testing.assert_allclose(two_hop([8]), np.arcsinh(3**-0.5 * np.array([0, 1, 1, 1])), rtol=1e-6)
    mass = np.array([2**-0.5, 2**-0.5 + 1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(two_hop([7, 5]), np.arcsinh(mass), rtol=1e-6)
    np.testing.assert_array_equal(two_hop([10]), np.zeros(4))
    np.testing.assert_array_equal(two_hop([]), np.zeros(4))


def test_two_hop_weights_by_hand():
    def change(head):
        mention = {**head["mention"], "bias": jnp.array([-3.0])}  # 1 - 3: a mention that counts against
        relations = head["relations"].at[0, 0].set(jnp.log(5.0)).at[1, 0].set(jnp.log(7.0))
        recency = head["recency"].at[1].set(jnp.log(11.0))  # one mention before the last
        scale = {"scale": jnp.array(0.5), "unit": jnp.log(13.0)}
        return {**head, **scale, "mention": mention, "relations": relations, "recency": recency}

    logits = two_hop([1, 10], change)
    np.testing.assert_allclose(logits, 0.5 * np.arcsinh(13 * -2 * 11 * 5 * 7 * np.array([0.5, 0.5, 0, 0])), rtol=1e-5)
    assert (two_hop([4], change) < 0).all()


def test_two_hop_needs_facts():
    model = recommender()
    batch = with_tokens(small_batch())
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), small_graph(), batch, ITEMS)["params"])
    assert "two_hop" not in shapes["head"] and "repetition" in shapes["head"]


@pytest.mark.parametrize("preset", ["improved", "summed"])
def test_paths_of_the_heads(preset):
    """Learning-rate groups of configs name them."""
    paths = {
        "/".join(part.key for part in path)
        for path, _ in jax.tree_util.tree_leaves_with_path(random_params(recommender(preset)))
    }
    slow = {"mention", "norm", "score", "aversion"}  # the first three read states that are trained
    assert {path for path in paths if not re.fullmatch(presets.HEAD_SCALARS, path)} == {
        path for path in paths if not path.startswith("head/") or "/query/" in path or slow & set(path.split("/"))
    }
    assert any("mixture" in path for path in paths) == (preset == "improved")


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["improved", "summed"])
def test_every_parameter_learns(preset):
    model, batch = recommender(preset), with_evidence(with_tokens(small_batch()))
    batch["entities"][0], batch["neighbours"][:2] = [1, 4, 8], ITEMS[2]  # two films and a genre
    batch["valence"][0], batch["text_ages"][0, 0] = [-0.9, 0.5, -0.8], 1
    for items, weights in PAIRS:
        batch[items][0], batch[weights][0] = ITEMS[1], 0.5
    total = jax.grad(lambda p: sum(jnp.sin(part).sum() for part in jax.tree.leaves(scores_of(model, p, batch))))
    gradients = jax.jit(total)(random_params(model))
    idle = {jax.tree_util.keystr(path) for path, g in jax.tree_util.tree_leaves_with_path(gradients) if not g.any()}
    assert not idle


def test_published_cooccurrence_head_needs_emotions():
    model = Recommender(prompt_config("code", emotions=False), SIZES, heads_config("code", cooccurrence="published"))
    with pytest.raises(ValueError, match="weighs by emotion"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), small_graph(), small_batch(), ITEMS))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_published_logits_and_losses(published, mode):
    run, params = published_run(published, mode, jnp.float32)
    logits = jax.jit(run)(params)
    np.testing.assert_allclose(logits, published[f"out/{mode}/rec_logits"], atol=2e-5, rtol=1e-5)
    if mode != "rec_copy":
        plain = cross_entropy(logits=logits, targets=published["in/rec_labels"][:, None], where=np.ones((4, 1), bool))
        np.testing.assert_allclose(plain, published[f"out/{mode}/ce_per_instance"], rtol=1e-5)
        value = per_example(published, mode, logits).mean()
        np.testing.assert_allclose(value, published[f"out/{mode}/rec_loss"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["rec", "rec_noemo"])
def test_published_float64(published, mode):
    with jax.enable_x64(True):
        run, params = published_run(published, mode, jnp.float64)
        logits = jax.jit(run)(params)
        np.testing.assert_allclose(logits, published[f"out/{mode}/f64/rec_logits"], atol=1e-10)
        value = per_example(published, mode, logits).mean()
        np.testing.assert_allclose(value, published[f"out/{mode}/f64/rec_loss"], rtol=1e-10)


def test_published_gradients(published):
    run, params = published_run(published, "rec", jnp.float32)
    gradients = jax.jit(jax.grad(lambda p: per_example(published, "rec", run(p)).mean()))(params)["encoder"]
    compared = set()
    for path, ours in jax.tree_util.tree_leaves_with_path(gradients):
        theirs, transposed = name("/".join(str(part.key) for part in path))
        expected = published[f"grad/rec/{theirs}"]
        ours = stored(f"grad/rec/{theirs}", ours.T if transposed else ours)
        np.testing.assert_allclose(ours, expected, atol=3e-5 * max(np.abs(expected).max(), 1e-3), rtol=1e-4)
        compared.add(f"grad/rec/{theirs}")
    assert compared == {key for key in published.arrays if key.startswith("grad/rec/")} and len(compared) == 42
