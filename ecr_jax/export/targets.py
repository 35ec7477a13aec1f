"""The one table of export targets: what each writes, of which stages, and which program reads it. Imports no jax."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A format that a run is exported to.

    Attributes:
      name: what the command line calls it: `ecr export RUN --to NAME`.
      summary: what is written.
      module: the module of `ecr_jax.export` with the functions `write(source, folder)`, which fills an empty folder,
        and `check(source, folder)`, which reads it with the consumer and returns a `source.Check`.
      stages: the stages that can be exported, the default first.
      consumer: the program that reads the folder.
      packages: what must be importable for the check with the consumer itself.
      usage: how the folder is used, in Markdown; `{name}` stands for the folder's name.
    """

    name: str
    summary: str
    module: str
    stages: tuple[str, ...]
    consumer: str
    usage: str
    packages: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """The packages of the consumer that are not installed."""
        return tuple(name for name in self.packages if importlib.util.find_spec(name) is None)

    @property
    def not_verified(self) -> str:
        """What to say where the consumer is not installed; empty where it is."""
        if not self.missing:
            return ""
        return (
            f"not verified by {self.consumer}: install {', '.join(self.missing)} (ecr-jax[parity] names the versions)"
        )


_GENERATORS = ("response", "conversation")
_MERGED = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
```"""

TARGETS = (
    Target(
        "hf",
        "a Hugging Face folder of the language model with its adapter merged: safetensors, config, tokenizer",
        "merged",
        _GENERATORS,
        "transformers",
        _MERGED,
        packages=("torch",),
    ),
    Target(
        "vllm",
        "the same Hugging Face folder, with the command line of vLLM",
        "merged",
        _GENERATORS,
        "transformers",
        "```sh\nvllm serve ./{name} --served-model-name {name}\n```\n\n"
        "`/v1/completions` continues a prompt. vLLM itself was not run: it loads the folder that transformers loads.",
        packages=("torch",),
    ),
    Target(
        "peft",
        "the LoRA adapter as a PEFT folder, with its base where that is no Hugging Face model",
        "adapter",
        _GENERATORS,
        "peft",
        """```python
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = PeftConfig.from_pretrained("{name}").base_model_name_or_path or "{name}/base"
model = AutoModelForCausalLM.from_pretrained(base)
tokenizer = AutoTokenizer.from_pretrained("{name}")
if len(tokenizer) > model.config.vocab_size:
    model.resize_token_embeddings(len(tokenizer))  # for the token <movie>
model = PeftModel.from_pretrained(model, "{name}")
```""",
        packages=("torch", "peft"),
    ),
    Target(
        "gguf",
        "the language model's base and its LoRA adapter as GGUF files",
        "gguf",
        _GENERATORS,
        "gguf",
        "```sh\nllama-cli -m {name}/base.gguf --lora {name}/adapter.gguf\n```\n\n"
        "The files were read with the package `gguf`; llama.cpp itself was not run.",
    ),
    Target(
        "recommender",
        "the recommender as safetensors and JSON, with a reader that needs numpy alone and ranks the saved examples",
        "recommender",
        ("recommendation",),
        "numpy",
        """```sh
python {name}/recommender.py  # ranks the saved examples, and compares with the run
```

```python
import sys

sys.path.insert(0, "{name}")
from recommender import Recommender, read_safetensors

recommender = Recommender("{name}")
batch = read_safetensors("{name}/example.safetensors")  # recommender.json says what each array is
print(recommender.ranking(recommender(batch)))
```""",
    ),
    Target(
        "stablehlo",
        "the recommender as a StableHLO program for cpu, cuda and tpu, of any batch size, with its arrays",
        "stablehlo",
        ("recommendation",),
        "jax.export",
        """```python
from pathlib import Path

import jax
from safetensors.numpy import load_file

program = jax.export.deserialize(bytearray(Path("{name}/recommender.stablehlo").read_bytes()))
batch = load_file("{name}/example.safetensors")  # recommender.json says what each array is
expected = batch.pop("probabilities")
probabilities = program.call(load_file("{name}/recommender.safetensors"), batch)  # [B, I]
```""",
    ),
    Target(
        "orbax",
        "the parameters as an Orbax checkpoint",
        "orbax",
        ("recommendation", *_GENERATORS),
        "orbax",
        """```python
from orbax.checkpoint import v1 as ocp

tree = ocp.load("{name}/params")  # nested dicts of arrays; model.json has the sizes
```""",
    ),
)


def names() -> tuple[str, ...]:
    """The targets' names."""
    return tuple(target.name for target in TARGETS)


def find(name: str, stage: str | None = None) -> tuple[Target, str]:
    """The target of a name, and the stage that is exported: `stage`, or the target's default.

    Raises:
      ValueError: no such target, or a stage that it is not for.
    """
    target = next((target for target in TARGETS if target.name == name), None)
    if target is None:
        raise ValueError(f"no export target {name!r}; choose one of {', '.join(names())}")
    if stage is not None and stage not in target.stages:
        raise ValueError(f"--to {name} exports {' or '.join(target.stages)}, not {stage!r}")
    return target, stage or target.stages[0]
