"""Conversion between Hugging Face's names and configurations and our parameter trees, by tables that check every shape.

A row of a table is (Hugging Face's name, our path, Hugging Face's shape, transposed?). `{l}` in a name stands for the
layer; such tensors are stacked to [L, ...]. Shapes are written with the letters defined in `_sizes`. torch stores a
linear layer as [out, in] and flax as [in, out], hence the transposition; GPT-2's are [in, out] already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ecr_jax.models.lm.bert import Bert, BertConfig
from ecr_jax.models.lm.gpt2 import Gpt2, Gpt2Config
from ecr_jax.models.lm.llama import Llama, LlamaConfig, RopeScaling

LanguageConfig = LlamaConfig | Gpt2Config | BertConfig
Row = tuple[str, str, str, bool]

LLAMA: tuple[Row, ...] = (
    ("embed_tokens.weight", "embed/embedding", "V D", False),
    ("layers.{l}.input_layernorm.weight", "layers/attention_norm/scale", "D", False),
    ("layers.{l}.self_attn.q_proj.weight", "layers/attention/q/kernel", "Q D", True),
    ("layers.{l}.self_attn.k_proj.weight", "layers/attention/k/kernel", "K D", True),
    ("layers.{l}.self_attn.v_proj.weight", "layers/attention/v/kernel", "K D", True),
    ("layers.{l}.self_attn.o_proj.weight", "layers/attention/o/kernel", "D Q", True),
    ("layers.{l}.post_attention_layernorm.weight", "layers/mlp_norm/scale", "D", False),
    ("layers.{l}.mlp.gate_proj.weight", "layers/mlp/gate/kernel", "F D", True),
    ("layers.{l}.mlp.up_proj.weight", "layers/mlp/up/kernel", "F D", True),
    ("layers.{l}.mlp.down_proj.weight", "layers/mlp/down/kernel", "D F", True),
    ("norm.weight", "norm/scale", "D", False),
)
LLAMA_HEAD: Row = ("lm_head.weight", "head", "V D", False)

GPT2: tuple[Row, ...] = (
    ("wte.weight", "embed/embedding", "V D", False),
    ("wpe.weight", "position/embedding", "P D", False),
    ("h.{l}.ln_1.weight", "layers/attention_norm/scale", "D", False),
    ("h.{l}.ln_1.bias", "layers/attention_norm/bias", "D", False),
    ("h.{l}.attn.c_attn.weight", "layers/attention/qkv/kernel", "D 3D", False),
    ("h.{l}.attn.c_attn.bias", "layers/attention/qkv/bias", "3D", False),
    ("h.{l}.attn.c_proj.weight", "layers/attention/o/kernel", "D D", False),
    ("h.{l}.attn.c_proj.bias", "layers/attention/o/bias", "D", False),
    ("h.{l}.ln_2.weight", "layers/mlp_norm/scale", "D", False),
    ("h.{l}.ln_2.bias", "layers/mlp_norm/bias", "D", False),
    ("h.{l}.mlp.c_fc.weight", "layers/mlp/up/kernel", "D F", False),
    ("h.{l}.mlp.c_fc.bias", "layers/mlp/up/bias", "F", False),
    ("h.{l}.mlp.c_proj.weight", "layers/mlp/down/kernel", "F D", False),
    ("h.{l}.mlp.c_proj.bias", "layers/mlp/down/bias", "D", False),
    ("ln_f.weight", "norm/scale", "D", False),
    ("ln_f.bias", "norm/bias", "D", False),
)

_ENCODER = "encoder.layer.{l}."
BERT: tuple[Row, ...] = (
    ("embeddings.word_embeddings.weight", "embed/embedding", "V D", False),
    ("embeddings.position_embeddings.weight", "position/embedding", "P D", False),
    ("embeddings.token_type_embeddings.weight", "token_type/embedding", "S D", False),
    ("embeddings.LayerNorm.weight", "embed_norm/scale", "D", False),
    ("embeddings.LayerNorm.bias", "embed_norm/bias", "D", False),
    (_ENCODER + "attention.self.query.weight", "layers/attention/q/kernel", "D D", True),
    (_ENCODER + "attention.self.query.bias", "layers/attention/q/bias", "D", False),
    (_ENCODER + "attention.self.key.weight", "layers/attention/k/kernel", "D D", True),
    (_ENCODER + "attention.self.key.bias", "layers/attention/k/bias", "D", False),
    (_ENCODER + "attention.self.value.weight", "layers/attention/v/kernel", "D D", True),
    (_ENCODER + "attention.self.value.bias", "layers/attention/v/bias", "D", False),
    (_ENCODER + "attention.output.dense.weight", "layers/attention/o/kernel", "D D", True),
    (_ENCODER + "attention.output.dense.bias", "layers/attention/o/bias", "D", False),
    (_ENCODER + "attention.output.LayerNorm.weight", "layers/attention_norm/scale", "D", False),
    (_ENCODER + "attention.output.LayerNorm.bias", "layers/attention_norm/bias", "D", False),
    (_ENCODER + "intermediate.dense.weight", "layers/mlp/up/kernel", "F D", True),
    (_ENCODER + "intermediate.dense.bias", "layers/mlp/up/bias", "F", False),
    (_ENCODER + "output.dense.weight", "layers/mlp/down/kernel", "D F", True),
    (_ENCODER + "output.dense.bias", "layers/mlp/down/bias", "D", False),
    (_ENCODER + "output.LayerNorm.weight", "layers/mlp_norm/scale", "D", False),
    (_ENCODER + "output.LayerNorm.bias", "layers/mlp_norm/bias", "D", False),
)

# An optional prefix of the names in a checkpoint: (pattern that `from_hf` drops, prefix that `to_hf` adds).
_PREFIXES = {
    LlamaConfig: (r"model\.", "model."),
    Gpt2Config: (r"transformer\.", "transformer."),
    BertConfig: (r"(?:bert|roberta)\.", ""),
}
# Buffers and heads that our modules do not use.
_IGNORED = {
    LlamaConfig: r".*rotary_emb\.inv_freq",
    Gpt2Config: r"h\.\d+\.attn\.(bias|masked_bias)|lm_head\.weight",
    BertConfig: r"embeddings\.position_ids|(pooler|cls|lm_head)\..*",
}


def module_of(config: LanguageConfig) -> type[Llama] | type[Gpt2] | type[Bert]:
    """The module class of a configuration."""
    return {LlamaConfig: Llama, Gpt2Config: Gpt2, BertConfig: Bert}[type(config)]


def table_of(config: LanguageConfig) -> tuple[Row, ...]:
    """The conversion table of a configuration; its names lack the model's prefix."""
    if isinstance(config, LlamaConfig):
        return LLAMA if config.tied else (*LLAMA, LLAMA_HEAD)
    return GPT2 if isinstance(config, Gpt2Config) else BERT


def projections(config: LanguageConfig) -> dict[str, tuple[str, tuple[int, int]]]:
    """{our path: (Hugging Face's module without the model's prefix, (in, out))} of the linear layers."""
    modules = {}
    for hf_name, path, letters, transposed in table_of(config):
        if path.endswith("/kernel"):
            shape = _shape(config, letters)
            module = hf_name.removesuffix(".weight")
            modules[path.removesuffix("/kernel")] = (module, shape[::-1] if transposed else shape)
    return modules


def _sizes(config: LanguageConfig) -> dict[str, int]:
    sizes = {
        "V": config.vocab_size,
        "D": config.width,
        "F": config.hidden,
        "P": config.positions,
        "3D": 3 * config.width,
    }
    if isinstance(config, LlamaConfig):
        sizes |= {"Q": config.heads * config.head_dim, "K": config.kv_heads * config.head_dim}
    if isinstance(config, BertConfig):
        sizes["S"] = config.token_types
    return sizes


def _shape(config: LanguageConfig, letters: str) -> tuple[int, ...]:
    sizes = _sizes(config)
    return tuple(sizes[letter] for letter in letters.split())


def _without_prefix(name: str, config: LanguageConfig) -> str:
    return re.sub("^" + _PREFIXES[type(config)][0], "", name)


def from_hf(tensors: Mapping[str, Any], config: LanguageConfig, dtype: Any = np.float32) -> dict[str, Any]:
    """Hugging Face's tensors as our tree of numpy arrays.

    Args:
      tensors: name -> array; read one at a time, so it may load lazily. Layers beyond `config.layers` are an error:
        leave their names out to keep the lowest ones.
      config: the sizes to check against.
      dtype: of the result.

    Raises:
      ValueError: names that are missing or that nothing uses, or a tensor of another shape; all are listed.
    """
    names = {_without_prefix(name, config): name for name in tensors}
    ignored = re.compile(_IGNORED[type(config)])
    if isinstance(config, LlamaConfig) and config.tied:
        names.pop("lm_head.weight", None)  # the same as the embedding
    unused = {short for short in names if not ignored.fullmatch(short)}
    missing, misshapen = [], []
    tree: dict[str, Any] = {}
    for hf_name, path, letters, transposed in table_of(config):
        stacked = "{l}" in hf_name
        shape = _shape(config, letters)
        array = np.empty((config.layers if stacked else 1, *(shape[::-1] if transposed else shape)), dtype)
        for layer in range(len(array)):
            short = hf_name.replace("{l}", str(layer))
            if short not in names:
                missing.append(short)
                continue
            unused.discard(short)
            tensor = tensors[names[short]]
            if tuple(tensor.shape) != shape:
                misshapen.append(f"{names[short]} is {tuple(tensor.shape)}, not {shape} ({letters})")
                continue
            array[layer] = np.asarray(tensor).T if transposed else np.asarray(tensor)
        _put(tree, path, array if stacked else array[0])
    problems = [f"missing: {', '.join(missing)}"] if missing else []
    problems += [f"not used by {type(config).__name__}: {', '.join(sorted(unused))}"] if unused else []
    problems += misshapen
    if problems:
        raise ValueError("these weights do not fit the configuration; " + "; ".join(problems))
    return tree


def to_hf(params: Mapping[str, Any], config: LanguageConfig) -> dict[str, np.ndarray]:
    """Our tree as Hugging Face's tensors (contiguous numpy arrays), the inverse of `from_hf`.

    Raises:
      ValueError: a path that is missing or unknown, or an array of another shape.
    """
    return {name: np.ascontiguousarray(view) for name, view in hf_views(params, config)}


def hf_views(params: Mapping[str, Any], config: LanguageConfig) -> Iterator[tuple[str, np.ndarray]]:
    """The names and tensors of `to_hf` as views of our arrays, so that a large model is not in memory twice."""
    flat = flatten(params)
    table = table_of(config)
    if different := set(flat) ^ {path for _, path, _, _ in table}:
        raise ValueError(f"missing from or unknown to {type(config).__name__}: {', '.join(sorted(different))}")
    prefix = _PREFIXES[type(config)][1]
    for hf_name, path, letters, transposed in table:
        stacked = "{l}" in hf_name
        array = np.asarray(flat[path])
        shape = _shape(config, letters)
        expected = (config.layers,) * stacked + (shape[::-1] if transposed else shape)
        if array.shape != expected:
            raise ValueError(f"{path} is {array.shape}, not {expected}")
        for layer, part in enumerate(array if stacked else array[None]):
            name = ("" if hf_name == LLAMA_HEAD[0] else prefix) + hf_name.replace("{l}", str(layer))
            yield name, part.T if transposed else part


def flatten(tree: Mapping[str, Any], parent: str = "") -> dict[str, Any]:
    """{"a": {"b": x}} → {"a/b": x}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{parent}/{name}" if parent else name
        flat |= flatten(value, path) if isinstance(value, Mapping) else {path: value}
    return flat


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split("/")
    for name in parents:
        tree = tree.setdefault(name, {})
    tree[last] = value


def config_from_hf(values: Mapping[str, Any]) -> LanguageConfig:
    """Our configuration from the dictionary of a `config.json`.

    Raises:
      ValueError: an architecture or a setting that is not supported, or a field that is missing or cannot be.
    """
    kind = values.get("model_type")
    readers = {"llama": _llama_from_hf, "gpt2": _gpt2_from_hf, "bert": _bert_from_hf, "roberta": _bert_from_hf}
    if kind not in readers:
        raise ValueError(f"model_type {kind!r} is not supported; supported are {', '.join(readers)}")
    return readers[kind](values)


def integer_setting(values: Mapping[str, Any], field: str, default: int | None = None, least: int = 1) -> int:
    """An integer among the settings of a model.

    Raises:
      ValueError: it is missing and has no default, or it is not an integer of at least `least`.
    """
    value = values.get(field)
    value = default if value is None else value
    if value is None:
        raise ValueError(f"the settings lack the field {field!r}")
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{field}={value!r} must be a whole number of at least {least}")
    return value


def positive_setting(values: Mapping[str, Any], field: str, default: float | None = None) -> float:
    """A number above 0 among the settings of a model; errors as in `integer_setting`."""
    value = values.get(field)
    value = default if value is None else value
    if value is None:
        raise ValueError(f"the settings lack the field {field!r}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{field}={value!r} must be a number above 0")
    return float(value)


def _check_supported(values: Mapping[str, Any], field: str, *supported: Any) -> None:
    """Raises ValueError for a setting that our modules do not implement; the first supported value is the default."""
    if values.get(field, supported[0]) not in supported:
        raise ValueError(f"{field}={values[field]!r} is not supported; supported: {', '.join(map(repr, supported))}")


def _llama_from_hf(values: Mapping[str, Any]) -> LlamaConfig:
    _check_supported(values, "hidden_act", "silu")
    _check_supported(values, "attention_bias", False)
    _check_supported(values, "mlp_bias", False)
    # transformers 5 has one dictionary for rotary positions, older versions have two fields.
    rope = dict(values.get("rope_parameters") or values.get("rope_scaling") or {})
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise ValueError(f"rope_type {kind!r} is not supported; supported are default, llama3")
    _check_supported(rope, "partial_rotary_factor", 1.0)
    scaling = None
    if kind == "llama3":
        low, high = positive_setting(rope, "low_freq_factor"), positive_setting(rope, "high_freq_factor")
        positions = integer_setting(
            rope, "original_max_position_embeddings", values.get("original_max_position_embeddings")
        )
        scaling = RopeScaling(positive_setting(rope, "factor"), low, high, positions)
    heads, width = integer_setting(values, "num_attention_heads"), integer_setting(values, "hidden_size")
    return LlamaConfig(
        vocab_size=integer_setting(values, "vocab_size"),
        width=width,
        layers=integer_setting(values, "num_hidden_layers"),
        heads=heads,
        kv_heads=integer_setting(values, "num_key_value_heads", heads),
        head_dim=integer_setting(values, "head_dim", width // heads),
        hidden=integer_setting(values, "intermediate_size"),
        positions=integer_setting(values, "max_position_embeddings", 2048),
        rope_theta=positive_setting(rope, "rope_theta", positive_setting(values, "rope_theta", 10000.0)),
        rope_scaling=scaling,
        eps=positive_setting(values, "rms_norm_eps", 1e-6),
        tied=bool(values.get("tie_word_embeddings", False)),
    )


def _gpt2_from_hf(values: Mapping[str, Any]) -> Gpt2Config:
    _check_supported(values, "activation_function", "gelu_new")
    _check_supported(values, "tie_word_embeddings", True)
    _check_supported(values, "scale_attn_weights", True)
    _check_supported(values, "scale_attn_by_inverse_layer_idx", False)
    _check_supported(values, "add_cross_attention", False)
    width = integer_setting(values, "n_embd")
    return Gpt2Config(
        vocab_size=integer_setting(values, "vocab_size"),
        width=width,
        layers=integer_setting(values, "n_layer"),
        heads=integer_setting(values, "n_head"),
        hidden=integer_setting(values, "n_inner", 4 * width),
        positions=integer_setting(values, "n_positions"),
        eps=positive_setting(values, "layer_norm_epsilon", 1e-5),
    )


def _bert_from_hf(values: Mapping[str, Any]) -> BertConfig:
    _check_supported(values, "hidden_act", "gelu")
    _check_supported(values, "position_embedding_type", "absolute")
    _check_supported(values, "is_decoder", False)
    # RoBERTa's positions begin behind its padding id.
    offset = integer_setting(values, "pad_token_id", least=0) + 1 if values["model_type"] == "roberta" else 0
    return BertConfig(
        vocab_size=integer_setting(values, "vocab_size"),
        width=integer_setting(values, "hidden_size"),
        layers=integer_setting(values, "num_hidden_layers"),
        heads=integer_setting(values, "num_attention_heads"),
        hidden=integer_setting(values, "intermediate_size"),
        positions=integer_setting(values, "max_position_embeddings"),
        token_types=integer_setting(values, "type_vocab_size"),
        position_offset=offset,
        eps=positive_setting(values, "layer_norm_eps", 1e-12),
    )


def config_to_hf(config: LanguageConfig) -> dict[str, Any]:
    """The `config.json` of our configuration, the inverse of `config_from_hf`; readable by transformers 4 and 5.

    It has no ids of the tokens that begin, end or pad a text: those come from the tokenizer, and
    `pretrained.language_models.save` adds them.
    """
    if isinstance(config, LlamaConfig):
        return _llama_to_hf(config)
    return _gpt2_to_hf(config) if isinstance(config, Gpt2Config) else _bert_to_hf(config)


def _llama_to_hf(config: LlamaConfig) -> dict[str, Any]:
    scaling = config.rope_scaling
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.hidden,
        "hidden_act": "silu",
        "max_position_embeddings": config.positions,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling
        and {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low,
            "high_freq_factor": scaling.high,
            "original_max_position_embeddings": scaling.positions,
        },
        "rms_norm_eps": config.eps,
        "tie_word_embeddings": config.tied,
    }


def _gpt2_to_hf(config: Gpt2Config) -> dict[str, Any]:
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.hidden,
        "n_positions": config.positions,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.eps,
        "tie_word_embeddings": True,
    }


def _bert_to_hf(config: BertConfig) -> dict[str, Any]:
    roberta = config.position_offset > 0
    return {
        "model_type": "roberta" if roberta else "bert",
        "architectures": ["RobertaModel" if roberta else "BertModel"],
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.hidden,
        "hidden_act": "gelu",
        "max_position_embeddings": config.positions,
        "type_vocab_size": config.token_types,
        "pad_token_id": max(config.position_offset - 1, 0),
        "layer_norm_eps": config.eps,
    }
