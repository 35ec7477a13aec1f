"""Target `peft`: the LoRA adapter as a PEFT folder, beside its base where transformers cannot load that by name."""

from __future__ import annotations

from pathlib import Path

from ecr_jax.export import generator
from ecr_jax.export.generator import Generator
from ecr_jax.export.merged import same_tokens, torch_logits
from ecr_jax.export.source import Check, Source
from ecr_jax.export.targets import find
from ecr_jax.pretrained import hub, language_models, peft_adapters

BASE = "base"


def write(source: Source, folder: Path) -> None:
    """Writes the adapter, the tokenizer and, where transformers cannot load it by name, the base.

    Raises:
      ValueError: the stage trained no adapter, or tokens of a model whose head is not tied to its embeddings.
    """
    model = generator.generator(source)
    if model.adapter is None:
        raise ValueError(f"the stage {source.stage!r} trained no adapter ({source.stage}.tune); export it with --to hf")
    if model.adapter.tokens is not None and "head" in model.base.params:
        raise ValueError(f"{model.name} has a head of its own, which PEFT does not train for one token; use --to hf")
    own = _needs_own_base(model)
    peft_adapters.write(folder, model.adapter, model.base.config, None if own else model.name)
    model.tokenizer.tokenizer.save_pretrained(str(folder))
    if own:
        language_models.save(folder / BASE, model.base)


def _needs_own_base(model: Generator) -> bool:
    """Whether the base is a GGUF file, or only some of a model's layers."""
    return model.layers is not None or not hub.resolve(model.name).is_dir()


def check(source: Source, folder: Path) -> Check:
    """Compares the logits of texts of the corpus: by peft where it is installed, else by our own reader."""
    model, texts = generator.generator(source), generator.sample_texts(source)
    tokens, mask = generator.token_batch(model.tokenizer, texts)
    if find("peft")[0].missing:
        read = peft_adapters.read(folder, model.base.config)
        return generator.compare(source, model, generator.logits(model.base, tokens, mask, read), "ecr_jax")
    import peft
    import transformers

    same_tokens(folder, texts, tokens, mask)
    base = folder / BASE if _needs_own_base(model) else hub.resolve(model.name)
    adapted = transformers.AutoModelForCausalLM.from_pretrained(str(base))
    if model.adapter is not None and model.adapter.tokens is not None:
        adapted.resize_token_embeddings(model.base.config.vocab_size)
    adapted = peft.PeftModel.from_pretrained(adapted, str(folder))
    theirs = torch_logits(adapted, tokens, mask)
    return generator.compare(source, model, theirs, f"peft {peft.__version__}, transformers {transformers.__version__}")
