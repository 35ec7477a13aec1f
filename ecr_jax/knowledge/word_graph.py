"""A graph of words that are said together, counted on training dialogues.

It stands in for ConceptNet where a model wants words to know of each other (KGSF): ConceptNet comes in no package that
could be installed, and what it is used for there, "scary" beside "horror", is also seen in how people talk about films.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
from sklearn.feature_extraction.text import CountVectorizer

from ecr_jax.data.schema import MOVIE


def _vectorizer(**settings) -> CountVectorizer:
    """Lower-case words of two letters and more, without English function words and contractions."""
    words = r"(?<![\w'])[a-z]{2,}(?![\w'])"
    return CountVectorizer(preprocessor=_plain, token_pattern=words, stop_words="english", binary=True, **settings)


def _plain(text: str) -> str:
    return text.replace(MOVIE, " ").lower()


@dataclass(frozen=True)
class WordGraph:
    """Words and which of them are used together. Made by `count`.

    Attributes:
      words: in alphabetical order; a word's id is its place, `len(words)` stands for none.
      senders, receivers: int32 [M] edges both ways and a loop at each word, sorted by receiver, then sender.
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
    def _split(self):
        return _vectorizer().build_analyzer()

    def ids(self, texts: Iterable[str], limit: int) -> np.ndarray:
        """The latest `limit` distinct known words of `texts`, latest last. int32 [<= limit]."""
        said: dict[int, None] = {}
        for text in texts:
            for word in self._split(text):
                if word in self._ids:
                    said.pop(self._ids[word], None)
                    said[self._ids[word]] = None
        return np.asarray(list(said)[-limit:], np.int32)


def count(texts: Sequence[str], *, least: int = 5, together: int = 3, neighbours: int = 10) -> WordGraph:
    """Joins each word to those with which it has the highest positive pointwise mutual information.

    PMI(x, y) = log(p(x, y) / (p(x) p(y))), p being the share of texts that hold the words.

    Args:
      texts: turns of the train split, films masked, so that no title takes part.
      least: texts that a word must be in.
      together: texts that two words must be in together.
      neighbours: edges a word chooses (it may be chosen by more); equal ones are ordered by id.

    Raises:
      ValueError: no word is in `least` texts.

    Reference: Yao, Mao and Luo 2019, "Graph Convolutional Networks for Text Classification", Eqs. 2-5.
    """
    vectorizer = _vectorizer(min_df=min(least, max(len(texts), 1)))
    try:
        said = scipy.sparse.csr_array(vectorizer.fit_transform(texts)).astype(np.int64)  # [texts, V]
    except ValueError as error:
        raise ValueError(f"no word is said in {least} of the {len(texts)} training turns: {error}") from error
    words = tuple(vectorizer.get_feature_names_out().tolist())
    pairs = scipy.sparse.coo_array(said.T @ said)
    single = said.sum(axis=0)
    x, y, number = pairs.row, pairs.col, pairs.data
    information = np.log(number * len(texts) / (single[x] * single[y]))
    kept = (x != y) & (number >= together) & (information > 0)
    x, y, information = x[kept], y[kept], information[kept]
    order = np.lexsort((y, -information, x))
    x, y = x[order], y[order]
    chosen = np.arange(len(x)) - np.searchsorted(x, x) < neighbours
    x, y, loops = x[chosen], y[chosen], np.arange(len(words))
    edges = np.unique(np.stack([np.r_[x, y, loops], np.r_[y, x, loops]], axis=1), axis=0).astype(np.int32)
    return WordGraph(words, edges[:, 1], edges[:, 0])
