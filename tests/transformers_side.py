"""The side of transformers, on torch, of `tests/parity.py`: for live comparisons and for writing golden arrays."""

from __future__ import annotations

import numpy as np
import torch
import transformers

torch.set_num_threads(1)  # the models are tiny


def build(config, seed=7):
    """A model with random weights that float16 holds exactly; norms and biases too: a forgotten one must show."""
    torch.manual_seed(seed)
    causal = config.model_type in ("llama", "gpt2")
    kind = transformers.AutoModelForCausalLM if causal else transformers.AutoModel
    model = kind.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter + 0.3 * torch.randn_like(parameter)).half().float())
    return model


def read(model, batch):
    """The results of `parity.Ours.read`, by transformers; RoBERTa counts its own positions over real tokens."""
    mask = torch.tensor(batch["mask"])
    inputs = {"input_ids": torch.tensor(batch["tokens"]).long(), "attention_mask": mask.long()}
    if model.config.model_type != "roberta":
        inputs["position_ids"] = torch.tensor(batch["positions"]).long()
    if "token_types" in batch:
        inputs["token_type_ids"] = torch.tensor(batch["token_types"]).long()
    model.zero_grad()
    result = model(**inputs, output_hidden_states=True)
    states = list(result.hidden_states[1:])
    causal = hasattr(result, "logits")
    if causal:  # all but the last are from before the final norm
        norm = model.model.norm if model.config.model_type == "llama" else model.transformer.ln_f
        states = [*(norm(state) for state in states[:-1]), states[-1]]
        pairs = mask[:, 1:] & mask[:, :-1]
        losses = torch.nn.functional.cross_entropy(
            result.logits[:, :-1].transpose(1, 2), inputs["input_ids"][:, 1:], reduction="none"
        )
        loss = (losses * pairs).sum() / pairs.sum()
    else:
        products = states[-1] @ torch.cos(torch.arange(states[-1].shape[-1]).float())
        loss = (products * mask).sum() / mask.sum()
    loss.backward()
    hidden = states[-1].detach().numpy()
    return {
        "loss": loss.item(),
        "logits": result.logits.detach().numpy() if causal else hidden,
        "hidden": hidden,
        "states": np.array([state.detach().numpy() for state in states[:-1]]),
        "gradients": {
            name: parameter.grad.numpy().copy()
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        },
    }
