"""SmolLM2 from a GGUF file through our tree and a Hugging Face folder to transformers: both decoders write the same.

Shown by `pytest -m parity -k round_trip` (without torch nothing is compared and the test is skipped).
"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from ecr_jax.inference.decoding import Decoding, generate, pad_left
from ecr_jax.pretrained import language_models

pytestmark = [pytest.mark.parity, pytest.mark.slow, pytest.mark.filterwarnings("default")]

PROMPTS = (
    "Recommend me a film like Alien.",
    "I feel sad today. What should I watch?",
    "Name three actors who played James Bond.",
)
NEW = 32


def ours(model, prompts, end):
    """Greedy continuations of token rows, by our decoder."""
    tokens, mask = pad_left(prompts, max(map(len, prompts)))
    plain = Decoding(max_new=NEW, temperature=0.0, min_new=0, no_repeat_ngram=0)
    return generate(model.module, {"params": model.params}, tokens, mask, decoding=plain, end=end).tokens


def test_smollm2_writes_the_same_after_the_round_trip(hub_model, tmp_path):
    torch = pytest.importorskip("torch")
    import transformers

    path = hub_model("smollm2-135m-instruct")
    model, tokenizer = language_models.load(path), language_models.load_tokenizer(path)
    language_models.save(tmp_path / "smollm2", model, tokenizer, shard_size="200MB")
    back = language_models.load(tmp_path / "smollm2")
    assert back.config == model.config
    jax.tree.map(np.testing.assert_array_equal, back.params, model.params)

    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "smollm2").eval()
    written = transformers.AutoTokenizer.from_pretrained(tmp_path / "smollm2")
    chats = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    assert texts == [written.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    rows = tokenizer(texts)["input_ids"]
    assert written(texts)["input_ids"] == rows

    replies = tokenizer.batch_decode(ours(model, rows, tokenizer.eos_token_id), skip_special_tokens=True)
    for row, reply in zip(rows, replies, strict=True):
        with torch.no_grad():  # transformers ends at the eos_token_id of the config.json we wrote
            new = theirs.generate(torch.tensor([row]), do_sample=False, max_new_tokens=NEW)[0, len(row) :]
        assert written.decode(new, skip_special_tokens=True) == reply
        assert len(reply) > 20
        print(repr(reply))
