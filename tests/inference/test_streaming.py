"""Text piece by piece: joined it is the whole, and no piece ends in a half character or a half stop string."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from ecr_jax.inference.streaming import TextStream


def letters(ids):
    return "".join(map(chr, ids))


def octets(ids):
    return bytes(ids).decode("utf-8", errors="replace")


def pieces_of(text, ids, last=True):
    """The pieces after each token, and the rest."""
    pieces = []
    for token in ids:
        if not text.push([token]):
            break
        pieces.append(text.take())
    return [*pieces, text.take(last=True)] if last else pieces


def test_pieces_by_hand():
    assert pieces_of(TextStream(letters), b"abc") == ["a", "b", "c", ""]
    assert pieces_of(TextStream(octets), "aé€😀b".encode()) == ["a", "", "é", "", "", "€", "", "", "", "😀", "b", ""]
    assert pieces_of(TextStream(octets), "a€".encode()[:3]) == ["a", "", "", "\ufffd"]  # cut within a character


def test_stop_strings_by_hand():
    assert pieces_of(TextStream(letters, ("\nU:",)), b"hi\nU: x") == ["h", "i", "", "", "", ""]
    assert pieces_of(TextStream(letters, ("\nU:",)), b"hi\nUx") == ["h", "i", "", "", "\nUx", ""]
    assert pieces_of(TextStream(letters, ("aab",)), b"aaab") == ["", "", "a", "", ""]
    assert pieces_of(TextStream(letters, ("xyz", "yq")), b"wxyq") == ["w", "", "", "x", ""]
    assert pieces_of(TextStream(letters, ("never",)), b"neve") == ["", "", "", "", "neve"]
    assert pieces_of(TextStream(octets, ("é!",)), "aé?é!".encode()) == ["a", "", "", "é?", "", "", "", ""]


def test_tokens_read_up_to_the_stop():
    text = TextStream(letters, ("cd", "bcd"))
    assert text.push(b"abcdef") == 4 and text.stopped and text.take() == "a"  # the earliest of those met together
    assert text.push(b"g") == 0 and text.take(last=True) == ""


@pytest.mark.parametrize("seed", range(3))
def test_pieces_joined_are_the_text(seed):
    rng = np.random.default_rng(seed)
    sample = "naïve — “quoted” 映画 😀😃! "
    data = bytes(rng.choice(list(sample.encode()), 40)) + sample.encode()
    pieces = pieces_of(TextStream(octets, ("quoted” 映", "!?")), data, last=False)
    text = TextStream(octets, ("quoted” 映", "!?"))
    text.push(data)
    assert "".join(pieces) == text.take() == octets(data).partition("quoted” 映")[0]
    assert text.stopped


def test_tokenizer_of_bytes():
    """A byte-level BPE without merges: each token is a byte, as rare characters are in GPT-2's."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    byte_tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    byte_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_tokenizer.decoder = decoders.ByteLevel()
    ids = byte_tokenizer.encode("Amélie 😀").ids
    pieces = pieces_of(TextStream(byte_tokenizer.decode), ids)
    assert len(ids) == 12 and "".join(pieces) == "Amélie 😀"
    assert pieces == ["A", "m", "", "é", "l", "i", "e", " ", "", "", "", "😀", ""]
