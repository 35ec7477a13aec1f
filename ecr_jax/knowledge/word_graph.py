"""A graph of words that occur together, counted on training dialogues.

It replaces ConceptNet in the baseline KGSF: no installable package contains ConceptNet, and what KGSF needs it for
(that "scary" is close to "horror") can also be learnt from how people talk about films.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
from sklearn.feature_extraction.text import CountVectorizer

from ecr_jax.data.schema import MOVIE


def _vectorizer(min_texts: int = 1) -> CountVectorizer:
    """Lower-case words of two letters and more, without English function words and contractions."""
    words = r"(?<![\w'])[a-z]{2,}(?![\w'])"
    return CountVectorizer(
        preprocessor=_preprocess, token_pattern=words, stop_words="english", binary=True, min_df=min_texts
    )


def _preprocess(text: str) -> str:
    return text.replace(MOVIE, " ").lower()


@dataclass(frozen=True)
class WordGraph:
    """Words, and edges between those that occur together. `build_word_graph` builds it.

    Attributes:
      words: in alphabetical order; a word's id is its index, and `len(words)` is the pad id.
      senders, receivers: int32 [M], edges in both directions and a self-loop at each word, sorted by receiver, then
        sender.
    """

    words: tuple[str, ...]
    senders: np.ndarray
    receivers: np.ndarray

    @cached_property
    def weights(self) -> np.ndarray:
        """float32 [M], (d_s d_r)^-1/2 with d the number of edges at a word: the normalised adjacency of a GCN."""
        degree = np.bincount(self.receivers, minlength=len(self.words))
        return (degree[self.senders] * degree[self.receivers]).astype(np.float32) ** -0.5

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    @cached_property
    def _analyze(self) -> Callable[[str], list[str]]:
        return _vectorizer().build_analyzer()

    def ids(self, texts: Iterable[str], limit: int) -> np.ndarray:
        """The latest `limit` distinct known words of `texts`, latest last. int32 [<= limit]."""
        ids: dict[int, None] = {}  # in the order of their last occurrence
        for text in texts:
            for word in self._analyze(text):
                if word in self._ids:
                    ids.pop(self._ids[word], None)
                    ids[self._ids[word]] = None
        return np.asarray(list(ids)[-limit:], np.int32)


def build_word_graph(
    texts: Sequence[str], *, min_texts: int = 5, min_shared_texts: int = 3, neighbours: int = 10
) -> WordGraph:
    """Connects each word to the words with which it has the highest positive pointwise mutual information.

    PMI(x, y) = log(p(x, y) / (p(x) p(y))), where p is the share of texts that contain the words.

    Args:
      texts: turns of the train split, with films masked so that titles do not count as words.
      min_texts: fewest texts that contain a word.
      min_shared_texts: fewest texts that contain both words of an edge.
      neighbours: edges that each word selects (other words may select it too); ties are ordered by id.

    Raises:
      ValueError: no word is in `min_texts` texts.

    Reference: Yao, Mao and Luo 2019, "Graph Convolutional Networks for Text Classification", Eqs. 2-5.
    """
    vectorizer = _vectorizer(min(min_texts, max(len(texts), 1)))
    try:
        occurrence = scipy.sparse.csr_array(vectorizer.fit_transform(texts)).astype(np.int64)  # [texts, V]
    except ValueError as error:
        raise ValueError(f"no word is in {min_texts} of the {len(texts)} training turns: {error}") from error
    words = tuple(vectorizer.get_feature_names_out().tolist())
    pairs = scipy.sparse.coo_array(occurrence.T @ occurrence)
    single = occurrence.sum(axis=0)
    x, y, number = pairs.row, pairs.col, pairs.data
    information = np.log(number * len(texts) / (single[x] * single[y]))
    selected = (x != y) & (number >= min_shared_texts) & (information > 0)
    x, y, information = x[selected], y[selected], information[selected]
    order = np.lexsort((y, -information, x))
    x, y = x[order], y[order]
    chosen = np.arange(len(x)) - np.searchsorted(x, x) < neighbours
    x, y, loops = x[chosen], y[chosen], np.arange(len(words))
    edges = np.unique(np.stack([np.r_[x, y, loops], np.r_[y, x, loops]], axis=1), axis=0).astype(np.int32)
    return WordGraph(words, edges[:, 1], edges[:, 0])
