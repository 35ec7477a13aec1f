"""Pure per-example ranking losses, chosen by name.

A ranking loss is a function of keyword arguments. Those without a default are the arrays that it reads, with names from
`INPUTS`; those with a default are its options. It returns one value a row, [B]: the sum over the row's targets. The
batch's sum is divided once, by the number of targets. A loss with another denominator returns (values [B], counts [B]):
the sum of the batch's values is divided by the sum of its counts, so that micro-batches and devices change nothing.
Losses that compare rows with each other (pairs across the batch, in-batch negatives) use all rows of a micro-batch, on
whatever devices they are. Padding (masked targets) never changes a value. `losses.objective` finds losses by name.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

RankingLoss = Callable[..., jax.Array | tuple[jax.Array, jax.Array]]
"""Keyword arguments -> values [B], or values [B] and counts [B]."""

INPUTS = {
    "logits": "float [B, I], scores of I candidates",
    "targets": "int [B, M], positions of a turn's targets among the candidates; anything where masked",
    "where": "bool [B, M], True for a real target",
    "weights": "float [B, M], a target's weight by the seeker's feedback (ECR: like 2, dislike 1, unsaid 0.5)",
    "feedback": "int [B, M], the seeker's feedback: 1 like, -1 dislike, 0 unsaid",
    "rated_items": "int [B, F], positions of all films that the seeker likes or dislikes anywhere in the dialogue",
    "ratings": "int [B, F], the ratings of these films: 1 like, -1 dislike, 0 for padding",
    "like_logits": "float [B, I], log odds that the seeker likes each candidate, from the like-probability head",
    "reaction": "float [B, 9], the seeker's emotions in reply to the turn, in the order of `emotion.labels.EMOTIONS`",
    "counts": "float [I], how often training recommends each candidate, above 0",
    "key": "a random key, another one each step",
}
"""The inputs that the recommendation stage offers to its losses, by the names of their arguments."""


def _floats(logits: jax.Array) -> jax.Array:
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def _negative_log_likelihood(logits: jax.Array, targets: jax.Array, where: jax.Array) -> jax.Array:
    """The cross-entropy of each target, [B, M]; something finite where masked."""
    return jax.nn.logsumexp(_floats(logits), axis=-1, keepdims=True) - _scores(logits, targets, where)


def _scores(logits: jax.Array, targets: jax.Array, where: jax.Array) -> jax.Array:
    """The logit of each target, [B, M]; something finite where masked."""
    return jnp.take_along_axis(_floats(logits), jnp.where(where, targets, 0), axis=-1)


def _log_complement(logits: jax.Array, targets: jax.Array, where: jax.Array) -> jax.Array:
    """log(1 - p) of each target, [B, M]: from the other candidates' scores, so that it is exact where p is near 1."""
    logits = _floats(logits)
    own = jnp.arange(logits.shape[-1]) == jnp.where(where, targets, 0)[..., None]  # [B, M, I]
    others = jax.nn.logsumexp(jnp.where(own, _LOWEST, logits[:, None, :]), axis=-1)
    return others - jax.nn.logsumexp(logits, axis=-1, keepdims=True)


_LOWEST = -1e30
"""A score that never counts; finite, so that the gradient through it is 0 and not NaN."""


def _sum(values: jax.Array, where: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(where, values, 0.0), axis=-1)


def _require(holds: bool, option: str, remedy: str) -> None:
    if not holds:
        raise ValueError(f"the option {option} of the loss is not allowed: {remedy}")


def cross_entropy(*, logits: jax.Array, targets: jax.Array, where: jax.Array) -> jax.Array:
    r"""Cross-entropy, summed over the targets of a row: one forward pass serves all films of a turn.

    .. math:: \sum_m \left(\log \sum_i e^{s_i} - s_{y_m}\right)

    Reference: ECR 3.2 (fusion), UniCRS Eq. 6.

    >>> logits, targets = jnp.log(jnp.array([[1.0, 2.0, 5.0]])), jnp.array([[1]])  # probabilities 1/8, 2/8, 5/8
    >>> print(cross_entropy(logits=logits, targets=targets, where=targets >= 0).round(3))
    [1.386]
    """
    return _sum(_negative_log_likelihood(logits, targets, where), where)


def feedback_cross_entropy(*, logits: jax.Array, targets: jax.Array, where: jax.Array, weights: jax.Array) -> jax.Array:
    r"""Cross-entropy weighted by the seeker's feedback on the film.

    .. math:: \sum_m w_m \left(\log \sum_i e^{s_i} - s_{y_m}\right)

    As published, the batch mean is not divided by the sum of the weights.

    Reference: ECR Eq. 7.

    >>> logits, targets = jnp.log(jnp.array([[1.0, 2.0, 5.0]])), jnp.array([[1]])  # probabilities 1/8, 2/8, 5/8
    >>> where, weights = jnp.array([[True]]), jnp.array([[2.0]])
    >>> print(feedback_cross_entropy(logits=logits, targets=targets, where=where, weights=weights).round(3))
    [2.773]
    """
    return _sum(weights * _negative_log_likelihood(logits, targets, where), where)


def normalised_cross_entropy(
    *, logits: jax.Array, targets: jax.Array, where: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`feedback_cross_entropy`, divided by the sum of the batch's weights, which the published mean is not.

    The learning rate then does not depend on the scale of the weights, and a batch of unrated targets counts as much as
    a batch of liked ones.

    Returns:
      The weighted sums, and the sums of the weights.

    Reference: ECR Eq. 7, as a weighted mean.
    """
    return _sum(weights * _negative_log_likelihood(logits, targets, where), where), _sum(weights, where)


def emotion_cross_entropy(
    *,
    logits: jax.Array,
    targets: jax.Array,
    where: jax.Array,
    reaction: jax.Array,
    like: float = 2.0,
    curious: float = 1.5,
    happy: float = 2.0,
    grateful: float = 1.5,
    negative: float = 1.0,
    neutral: float = 0.5,
    nostalgia: float = 1.5,
    agreement: float = 1.5,
    surprise: float = 1.5,
) -> jax.Array:
    r"""Cross-entropy weighted by the seeker's emotions in reply, for corpora without explicit feedback.

    .. math:: \left(\sum_k p_k c_k\right) \sum_m \left(\log \sum_i e^{s_i} - s_{y_m}\right)

    Args:
      like, curious, happy, grateful, negative, neutral, nostalgia, agreement, surprise: c_k, each emotion's weight.

    Reference: the label weights of ECR's released code, which its published command does not use; not in the paper.
    """
    scale = jnp.array([like, curious, happy, grateful, negative, neutral, nostalgia, agreement, surprise])
    return (reaction @ scale) * cross_entropy(logits=logits, targets=targets, where=where)


def signed_cross_entropy(
    *,
    logits: jax.Array,
    targets: jax.Array,
    where: jax.Array,
    weights: jax.Array,
    feedback: jax.Array,
    floor: float = 1.0,
) -> jax.Array:
    r"""Eq. 7 with the sign of the feedback: a disliked target's cross-entropy counts as negative.

    .. math:: \sum_m \begin{cases} -w_m \min(\ell_m, \log (I / f)) & \text{disliked} \\ w_m \ell_m & \text{else}
       \end{cases} \qquad \ell_m = -\log p_{y_m}

    Without the bound there is no minimum: every step would push the disliked films further down. With it they are
    pushed down until they are as unlikely as chance.

    Args:
      floor: f, the probability at which that stops, in multiples of chance 1 / I.

    Reference: ECR Eq. 7, signed; why plain ascent on a likelihood diverges: Zhang et al. 2024 (arXiv 2404.05868).
    """
    _require(floor > 0, f"floor = {floor}", "a multiple of chance is above 0")
    values = _negative_log_likelihood(logits, targets, where)
    bounded = jnp.minimum(values, jnp.log(logits.shape[-1] / floor))
    return _sum(weights * jnp.where(feedback < 0, -bounded, values), where)


def listwise_cross_entropy(
    *, logits: jax.Array, targets: jax.Array, where: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    r"""Cross-entropy against the distribution over all targets of a turn, so that every turn counts once.

    .. math:: -\sum_m \frac{w_m}{\sum_n w_n} \log p_{y_m}

    Returns:
      A value a turn, and 1 for every turn with a target of weight above 0: the mean is over turns.

    Reference: Cao et al. 2007 (ListNet: cross-entropy of top-one probabilities); Bruch et al. 2019 (softmax
    cross-entropy with several relevant items).
    """
    total = _sum(weights, where)
    values = _sum(weights * _negative_log_likelihood(logits, targets, where), where)
    return values / jnp.where(total > 0, total, 1.0), (total > 0).astype(values.dtype)


def smoothed_cross_entropy(
    *, logits: jax.Array, targets: jax.Array, where: jax.Array, weights: jax.Array, smoothing: float = 0.1
) -> jax.Array:
    r"""Eq. 7 with label smoothing: a share of the target's probability is spread evenly over the candidates.

    .. math:: -\sum_m w_m \left((1 - \epsilon) \log p_{y_m} + \frac{\epsilon}{I} \sum_i \log p_i\right)

    Args:
      smoothing: epsilon, in [0, 1).

    Reference: Szegedy et al. 2016, section 7.

    >>> logits, targets = jnp.log(jnp.array([[1.0, 2.0, 5.0]])), jnp.array([[1]])  # probabilities 1/8, 2/8, 5/8
    >>> where, weights = jnp.array([[True]]), jnp.array([[1.0]])
    >>> print(smoothed_cross_entropy(logits=logits, targets=targets, where=where, weights=weights).round(3))
    [1.379]
    """
    _require(0 <= smoothing < 1, f"smoothing = {smoothing}", "a share of the probability lies in [0, 1)")
    scores = _floats(logits)
    even = jax.nn.logsumexp(scores, axis=-1, keepdims=True) - jnp.mean(scores, axis=-1, keepdims=True)  # [B, 1]
    values = (1 - smoothing) * _negative_log_likelihood(logits, targets, where) + smoothing * even
    return _sum(weights * values, where)


def focal(
    *, logits: jax.Array, targets: jax.Array, where: jax.Array, weights: jax.Array, gamma: float = 2.0
) -> jax.Array:
    r"""Eq. 7 with less weight on targets that are already ranked well (popular films).

    .. math:: -\sum_m w_m (1 - p_{y_m})^\gamma \log p_{y_m}

    Args:
      gamma: 0 gives `feedback_cross_entropy`.

    Reference: Lin et al. 2017, Eq. 4.

    >>> logits, targets = jnp.log(jnp.array([[1.0, 2.0, 5.0]])), jnp.array([[1]])  # probabilities 1/8, 2/8, 5/8
    >>> print(focal(logits=logits, targets=targets, where=targets >= 0, weights=jnp.array([[1.0]])).round(3))
    [0.78]
    """
    _require(gamma >= 0, f"gamma = {gamma}", "give a number of at least 0")
    missing = jnp.exp(gamma * _log_complement(logits, targets, where))
    return _sum(weights * missing * _negative_log_likelihood(logits, targets, where), where)


def sampled_softmax(
    *,
    logits: jax.Array,
    targets: jax.Array,
    where: jax.Array,
    weights: jax.Array,
    counts: jax.Array,
    key: jax.Array,
    samples: int = 512,
    power: float = 1.0,
) -> jax.Array:
    r"""Eq. 7 with the normaliser estimated from sampled candidates, shared by the rows.

    .. math:: \sum_m w_m \log\left(1 + \sum_{j \in S, j \ne y_m} e^{s_j - \log(|S| q_j) - s_{y_m}}\right), \quad
       S \sim q \propto \text{counts}^{\text{power}}

    The correction by log q makes the sum under the logarithm an unbiased estimate of the full sum; a sample that hits
    the target is left out.

    Args:
      samples: how many candidates are drawn, with replacement.
      power: 1 draws by popularity, 0 uniformly.

    Reference: Bengio and Senécal 2008; Jean et al. 2015, section 3.
    """
    _require(samples >= 1, f"samples = {samples}", "draw at least one")
    log_q = jax.nn.log_softmax(power * jnp.log(counts))
    drawn = jax.random.categorical(key, log_q, shape=(samples,))
    corrected = _floats(logits)[:, drawn] - log_q[drawn] - jnp.log(float(samples))  # [B, S]
    hit = drawn == jnp.where(where, targets, 0)[..., None]  # [B, M, S]
    others = jax.nn.logsumexp(jnp.where(hit, _LOWEST, corrected[:, None, :]), axis=-1)
    return _sum(weights * jax.nn.softplus(others - _scores(logits, targets, where)), where)


def in_batch_softmax(
    *, logits: jax.Array, targets: jax.Array, where: jax.Array, weights: jax.Array, counts: jax.Array
) -> jax.Array:
    r"""Eq. 7 with the targets of the (micro-)batch as the only candidates, corrected for their popularity.

    .. math:: \sum_m w_m \log\left(1 + \sum_{j : y_j \ne y_m} e^{(s_{y_j} - \log q_{y_j}) - (s_{y_m} - \log q_{y_m})}
       \right), \quad q \propto \text{counts}

    Without the correction popular films would be pushed down for being in many batches. The feedback weights are the
    rewards r_i of the reference.

    Reference: Yi et al. 2019, section 3.
    """
    corrected = _floats(logits) - jnp.log(counts / jnp.sum(counts))
    own = jnp.where(where, targets, 0)
    columns = own.reshape(-1)  # [B M], of all rows
    other = (columns != own[..., None]) & where.reshape(-1)  # [B, M, B M]
    others = jax.nn.logsumexp(jnp.where(other, corrected[:, None, columns], _LOWEST), axis=-1)
    return _sum(weights * jax.nn.softplus(others - jnp.take_along_axis(corrected, own, axis=-1)), where)


def inverse_propensity(
    *,
    logits: jax.Array,
    targets: jax.Array,
    where: jax.Array,
    weights: jax.Array,
    counts: jax.Array,
    power: float = 0.5,
    clip: float = 10.0,
) -> tuple[jax.Array, jax.Array]:
    r"""Eq. 7 as if all items had the same chance to be recommended: rare targets count more.

    .. math:: \sum_m v_m w_m \ell_m \Big/ \sum_m v_m, \quad v_m = \min(1 / \pi_{y_m}, c), \quad
       \pi_i = (n_i / \max_j n_j)^{\text{power}}

    Self-normalised: sums and denominators are both over the batch.

    Args:
      power: exponent of the popularity; 0 gives `feedback_cross_entropy`.
      clip: c, the largest weight of an item; bounds the variance.

    Returns:
      The weighted sums, and the sums of v.

    Reference: Schnabel et al. 2016; Swaminathan and Joachims 2015 (self-normalised); Yang et al. 2018 (propensity from
    popularity).
    """
    _require(clip >= 1, f"clip = {clip}", "the most popular item counts 1, so give at least that")
    propensity = (counts / jnp.max(counts)) ** power
    inverse = jnp.minimum(1 / propensity, clip)[jnp.where(where, targets, 0)]
    return _sum(inverse * weights * _negative_log_likelihood(logits, targets, where), where), _sum(inverse, where)


def bpr(*, logits: jax.Array, targets: jax.Array, where: jax.Array, weights: jax.Array) -> jax.Array:
    r"""Each target against every candidate that is not a target of the turn, pair by pair.

    .. math:: \sum_m \frac{w_m}{|N|} \sum_{j \in N} \log(1 + e^{s_j - s_{y_m}})

    This is the expectation over uniformly drawn negatives: all scores are known, so that nothing is drawn.

    Reference: Rendle et al. 2009, section 4.1 (BPR-Opt; its regulariser is the optimiser's weight decay).

    >>> logits, targets = jnp.log(jnp.array([[1.0, 2.0, 5.0]])), jnp.array([[1]])  # probabilities 1/8, 2/8, 5/8
    >>> print(bpr(logits=logits, targets=targets, where=targets >= 0, weights=jnp.array([[1.0]])).round(3))
    [0.829]
    """
    candidates = logits.shape[-1]
    rows = jnp.arange(logits.shape[0])[:, None]
    columns = jnp.where(where, targets, candidates)  # masked ones are dropped
    negative = jnp.ones(logits.shape, bool).at[rows, columns].set(False, mode="drop")  # [B, I]
    behind = jax.nn.softplus(_floats(logits)[:, None, :] - _scores(logits, targets, where)[..., None])  # [B, M, I]
    number = jnp.maximum(jnp.sum(negative, axis=-1, keepdims=True), 1)
    return _sum(weights * _sum(behind, negative[:, None, :]) / number, where)


def pairwise_dialogue(
    *,
    logits: jax.Array,
    targets: jax.Array,
    where: jax.Array,
    feedback: jax.Array,
    rated_items: jax.Array,
    ratings: jax.Array,
    margin: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    r"""Films that a seeker likes over films that the same seeker dislikes.

    .. math:: \sum_{(l, d)} \log(1 + e^{\mu - (s_l - s_d)})

    over the pairs of a liked and a disliked film of the dialogue of which one is a target of the turn, both scored in
    the context of that turn. Other films do not enter: add it to a loss that ranks them.

    Args:
      margin: mu, the wanted difference of the scores.

    Returns:
      Sums over pairs, and numbers of pairs: the mean is over pairs.

    Reference: Burges et al. 2005 (RankNet), Eq. 3; the matching metric is `metrics.auc_dialogue`.
    """
    own = _scores(logits, targets, where)[..., None]  # [B, M, 1]
    others = jnp.take_along_axis(_floats(logits), rated_items, axis=-1)[:, None, :]  # [B, 1, F]
    sign = jnp.where(where, feedback, 0)[..., None]
    pairs = sign * ratings[:, None, :] < 0  # [B, M, F]
    values = jax.nn.softplus(margin - sign * (own - others))
    return _sum(_sum(values, pairs), where), jnp.sum(pairs, axis=(1, 2)).astype(values.dtype)


def pairwise_batch(
    *, logits: jax.Array, targets: jax.Array, where: jax.Array, feedback: jax.Array, margin: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    r"""Liked over disliked targets of all rows: a smooth bound of the pooled AUC's errors.

    .. math:: \sum_{(l, d)} \log(1 + e^{\mu - (\log p_l - \log p_d)})

    over all pairs of a liked and a disliked target of the (micro-)batch, each with its probability in its own context,
    as in the AUC. Other films do not enter: add it to a loss that ranks them.

    Args:
      margin: mu, the wanted difference of the log probabilities.

    Returns:
      Sums over the pairs of a row's liked targets, and their numbers: the mean is over pairs.

    Reference: Yan et al. 2003 (a smooth Wilcoxon-Mann-Whitney statistic); Gao and Zhou 2015 (the logistic loss is
    consistent with AUC); the matching metric is `metrics.auc_pooled`.
    """
    likelihood = -_negative_log_likelihood(logits, targets, where)  # [B, M]
    liked, disliked = where & (feedback > 0), (where & (feedback < 0)).reshape(-1)
    pairs = liked[..., None] & disliked  # [B, M, B M]
    values = jax.nn.softplus(margin - (likelihood[..., None] - likelihood.reshape(-1)))
    return jnp.sum(jnp.where(pairs, values, 0.0), axis=(1, 2)), jnp.sum(pairs, axis=(1, 2)).astype(values.dtype)


def feedback_bce(
    *, like_logits: jax.Array, targets: jax.Array, where: jax.Array, feedback: jax.Array
) -> tuple[jax.Array, jax.Array]:
    r"""Binary cross-entropy of the seeker's feedback: like or dislike, given that the film was recommended.

    .. math:: -\sum_m \log \sigma(f_m l_{y_m}), \quad f_m = 1 \text{ liked}, -1 \text{ disliked}

    over the targets that were rated. Added to a cross-entropy it gives the joint likelihood of film and feedback.

    Returns:
      Sums over rated targets, and their numbers.

    >>> values, counts = feedback_bce(
    ...     like_logits=jnp.zeros((1, 3)),
    ...     targets=jnp.array([[2, 0]]),
    ...     where=jnp.array([[True, True]]),
    ...     feedback=jnp.array([[1, 0]]),
    ... )
    >>> print(values.round(3), counts)  # log 2, of one rated target
    [0.693] [1.]
    """
    rated = where & (feedback != 0)
    values = jax.nn.softplus(-feedback * _scores(like_logits, targets, where))
    return _sum(values, rated), jnp.sum(rated, axis=-1).astype(values.dtype)


def like_pairwise(
    *,
    like_logits: jax.Array,
    targets: jax.Array,
    where: jax.Array,
    feedback: jax.Array,
    rated_items: jax.Array,
    ratings: jax.Array,
    margin: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    r"""Films that a seeker likes over films that the same seeker dislikes, by their log odds of being liked.

    .. math:: \sum_{(l, d)} \log(1 + e^{\mu - (o_l - o_d)})

    over the pairs of `pairwise_dialogue`: whatever all films of a context share cancels, so that only what tells films
    apart is trained.

    Args:
      margin: mu, the wanted difference of the log odds.

    Returns:
      Sums over pairs, and numbers of pairs: the mean is over pairs.

    Reference: Burges et al. 2005 (RankNet), Eq. 3; the matching metric is `metrics.auc_dialogue`.

    >>> values, counts = like_pairwise(
    ...     like_logits=jnp.array([[2.0, 1.0, 0.0]]),
    ...     targets=jnp.array([[0]]),
    ...     where=jnp.array([[True]]),
    ...     feedback=jnp.array([[1]]),
    ...     rated_items=jnp.array([[0, 1, 2]]),
    ...     ratings=jnp.array([[1, -1, 0]]),
    ... )
    >>> print(values.round(3), counts)  # log(1 + 1 / e), of one pair
    [0.313] [1.]
    """
    return pairwise_dialogue(
        logits=like_logits,
        targets=targets,
        where=where,
        feedback=feedback,
        rated_items=rated_items,
        ratings=ratings,
        margin=margin,
    )


def unlikelihood(
    *,
    logits: jax.Array,
    targets: jax.Array,
    where: jax.Array,
    weights: jax.Array,
    feedback: jax.Array,
    strength: float = 1.0,
) -> jax.Array:
    r"""Eq. 7 with an unlikelihood term for disliked films.

    .. math:: \sum_m \begin{cases} -\alpha w_m \log(1 - p_{y_m}) & \text{disliked} \\ -w_m \log p_{y_m} & \text{else}
       \end{cases}

    Args:
      strength: alpha.

    Reference: Welleck et al. 2019, section 5.
    """
    likely = _negative_log_likelihood(logits, targets, where)
    unlikely = -strength * _log_complement(logits, targets, where)
    return _sum(weights * jnp.where(feedback < 0, unlikely, likely), where)


RANKING: dict[str, RankingLoss] = {
    loss.__name__: loss
    for loss in (
        cross_entropy,
        feedback_cross_entropy,
        normalised_cross_entropy,
        emotion_cross_entropy,
        signed_cross_entropy,
        listwise_cross_entropy,
        smoothed_cross_entropy,
        focal,
        sampled_softmax,
        in_batch_softmax,
        inverse_propensity,
        bpr,
        pairwise_dialogue,
        pairwise_batch,
        unlikelihood,
        feedback_bce,
        like_pairwise,
    )
}
"""Losses of the recommendation stage by name."""
