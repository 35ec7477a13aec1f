"""Writes tests/golden/*.npz with torch and transformers: `python -m tests.make_golden` (extra `parity`).

The tests then need neither. Real models: a few logits and states; tiny random ones: weights (float16, which holds them
exactly), inputs, and what `tests/parity.py` compares. transformers reads the GGUF file by its own code, not by ours.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import transformers

from ecr_jax.pretrained import hub
from tests import transformers_side
from tests.parity import pad, positions, sample

FOLDER = Path(__file__).parent / "golden"
SENTENCES = (
    "I loved the slow, sad ending of that old detective film.",
    "Could you suggest 2 comedies from 1994? My kids can't stand horror!",
)
TOP = 64
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
DECODER = {"vocab_size": 40, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2}
ENCODER = DECODER | {"num_attention_heads": 3, "max_position_embeddings": 16, "pad_token_id": 1, "type_vocab_size": 2}
LLAMA = DECODER | {"num_attention_heads": 4, "head_dim": 8, "max_position_embeddings": 32}
TINY = {
    "llama": transformers.LlamaConfig(**LLAMA, num_key_value_heads=2),
    "llama_full": transformers.LlamaConfig(**LLAMA | {"head_dim": 6}, num_key_value_heads=4, tie_word_embeddings=True),
    "llama3": transformers.LlamaConfig(
        **LLAMA, num_key_value_heads=1, rope_parameters=LLAMA3, tie_word_embeddings=True
    ),
    "gpt2": transformers.GPT2Config(vocab_size=40, n_embd=24, n_layer=2, n_head=3, n_positions=16),
    "bert": transformers.BertConfig(**ENCODER),
    "roberta": transformers.RobertaConfig(**ENCODER),
}
FAR = {"llama": 9000, "llama_full": 9000, "llama3": 9000, "gpt2": 5, "bert": 5}  # where `far_logits` begin


def save(name: str, **arrays: np.ndarray) -> None:
    """One file, without pickle."""
    FOLDER.mkdir(exist_ok=True)
    np.savez_compressed(FOLDER / f"{name}.npz", **arrays)


def pad_right(rows: list[list[int]], filler: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and mask, as wide as the longest."""
    return pad(rows, "right", max(map(len, rows)), filler)


@torch.no_grad()
def smollm2() -> None:
    """Logits and states of SmolLM2, read by transformers from the GGUF file."""
    path = hub.resolve("smollm2-135m-instruct")
    read = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**read)
    model = transformers.AutoModelForCausalLM.from_pretrained(**read, dtype=torch.float32).eval()
    tokens, mask = pad_right([tokenizer(text)["input_ids"] for text in SENTENCES], 2)
    result = model(torch.tensor(tokens), attention_mask=torch.tensor(mask), output_hidden_states=True)
    top = result.logits.topk(TOP, dim=-1)
    at = np.array([0, 5, 10])
    save(
        "smollm2",
        sentences=np.array(SENTENCES),
        tokens=tokens,
        mask=mask,
        at=at,
        top_ids=top.indices.numpy()[:, at].astype(np.int32),
        top_logits=top.values.numpy()[:, at],
        hidden=result.hidden_states[-1].numpy()[..., ::24],
        chat=np.array(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": SENTENCES[0]}], tokenize=False, add_generation_prompt=True
            )
        ),
    )


@torch.no_grad()
def minilm() -> None:
    """States of MiniLM."""
    path = str(hub.resolve("minilm-l6"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.BertModel.from_pretrained(path).eval()
    tokens, mask = pad_right([tokenizer(text)["input_ids"] for text in SENTENCES], 0)
    hidden = model(torch.tensor(tokens), attention_mask=torch.tensor(mask)).last_hidden_state.numpy()
    save("minilm", sentences=np.array(SENTENCES), tokens=tokens, mask=mask, hidden=hidden[..., ::12])


def tiny(name: str, config: transformers.PretrainedConfig) -> None:
    """Weights, inputs, scores, states and samples of the gradients of a tiny random model."""
    model = transformers_side.build(config)
    rng = np.random.default_rng(7)
    tokens, mask = pad_right([rng.integers(2, 40, n).tolist() for n in (11, 7)], 1)
    batch = {"tokens": tokens, "mask": mask, "positions": positions(mask)}
    if name == "bert":  # RoBERTa has no use for segments
        batch["token_types"] = (np.arange(11) > 4).astype(np.int32) * np.ones((2, 1), np.int32)
    read = transformers_side.read(model, batch)
    gradients = read.pop("gradients")
    samples = {name: sample(gradient) for name, gradient in gradients.items()}
    if name in FAR:
        far = batch | {"positions": positions(mask, FAR[name])}
        read |= {"far_positions": far["positions"], "far_logits": transformers_side.read(model, far)["logits"]}
    arrays = batch | read | {"config": np.array(json.dumps(config.to_dict()))}
    arrays |= {"gradient_names": np.array(list(samples)), "gradients": np.array(list(samples.values()))}
    weights = {f"weights/{key}": value.numpy().astype(np.float16) for key, value in model.state_dict().items()}
    save(f"tiny_{name}", **arrays, **weights)


if __name__ == "__main__":
    for case, sizes in TINY.items():
        tiny(case, sizes)
    minilm()
    smollm2()
