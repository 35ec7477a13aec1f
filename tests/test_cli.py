"""The command line: arguments reach the functions, and mistakes are printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ecr_jax.data.prepare
import ecr_jax.evaluation.compare
import ecr_jax.evaluation.run
import ecr_jax.export.run
import ecr_jax.inference.chat
import ecr_jax.runs.demo
import ecr_jax.runs.sweep
import ecr_jax.stages
from ecr_jax.cli import main
from ecr_jax.config import LoraConfig, presets
from ecr_jax.data.schema import BadLine, CorpusError, Split
from ecr_jax.training.options import ShardingConfig


@pytest.fixture
def called(monkeypatch):
    """Records what each command calls, in the place of doing it."""
    calls = []

    def record(module, name):
        monkeypatch.setattr(module, name, lambda *args, **named: calls.append((name, args, named)))

    record(ecr_jax.data.prepare, "prepare")
    record(ecr_jax.stages, "train")
    record(ecr_jax.evaluation.run, "evaluate")
    record(ecr_jax.evaluation.compare, "compare")
    record(ecr_jax.inference.chat, "talk")
    record(ecr_jax.export.run, "export")
    record(ecr_jax.runs.demo, "run")
    return calls


COMMANDS = (
    "prepare", "reviews", "annotate", "train", "shardings", "sweep", "evaluate", "simulate", "compare", "zero-shot",
    "judge", "human", "chat", "export", "demo",
)  # fmt: skip


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert f"ecr {command}".strip() in capsys.readouterr().out


def test_help_names_the_configs(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("demo", "redial:unicrs", "redial:ecr_ls", "redial_paper"))


def test_a_run_with_a_base(called):
    flags = ["--config", "redial", "--name", "redial_s1", "--base", "redial", "--fusion.train.seed", "1"]
    flags += ["--recommender.heads.cooccurrence", "published", "--recommender.prompt.recommendation-prefix", "20"]
    flags += ["--recommender.prompt.masked", "False", "--recommendation.candidates", "entities"]
    assert main(["train", "fusion", *flags]) == 0
    ((_, (config, _), _),) = called
    assert (config.name, config.base, config.prepared_folder) == ("redial_s1", "redial", Path("prepared/redial"))
    assert config.fusion.train.seed == 1 and config.recommendation.candidates == "entities"
    heads, prompt = config.recommender.heads, config.recommender.prompt
    assert (heads.cooccurrence, prompt.recommendation_prefix, prompt.masked) == ("published", 20, False)
    assert heads.two_hop is True and prompt.normalise is True  # the rest is as the config has it


def test_prepare(called):
    assert main(["prepare", "--config", "redial", "--corpus.data", "elsewhere", "--skip-bad", "--force"]) == 0
    ((name, (config,), named),) = called
    assert name == "prepare" and named["force"] is True
    assert config.name == "redial" and config.corpus.data == Path("elsewhere") and config.corpus.skip_bad


def test_train_with_overrides(called):
    flags = ["--recommendation.train.batch-size", "32", "--recommender.layers", "3", "--seed", "7"]
    assert main(["train", "recommendation", *flags]) == 0
    ((name, (config, stage), named),) = called
    assert (name, stage, named) == ("train", "recommendation", {"force": False})
    assert config.recommendation.train.batch_size == 32 and config.recommender.layers == 3 and config.seed == 7
    assert config.fusion.train.batch_size != 32  # only what was named


def test_train_split_over_devices(called, capsys):
    flags = ["--response.train.sharding.strategy", "fsdp_tensor", "--response.train.sharding.model", "4"]
    assert main(["train", "response", *flags]) == 0
    ((_, (config, _), _),) = called
    assert config.response.train.sharding == ShardingConfig("fsdp_tensor", 4)
    assert config.conversation.train.sharding == ShardingConfig()
    with pytest.raises(SystemExit):
        main(["train", "response", *flags[:2]])
    words = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "ShardingConfig.model = 1 is not allowed: 'fsdp_tensor' needs 2 or more devices on `model`" in words


def test_a_baseline_is_trained_by_its_name(called):
    assert main(["train", "kbrd", "--force", "--baselines.kbrd.width", "32"]) == 0
    ((name, (config, stage), named),) = called
    assert (name, stage, named) == ("train", "kbrd", {"force": True})
    assert config.baselines.kbrd.width == 32 and config.baselines.kgsf.width != 32


def test_a_loss_that_does_not_exist_is_refused_before_training(called, capsys):
    assert main(["train", "emotion", "--recommendation.loss", "vocal"]) == 1
    assert "there is no loss 'vocal'" in capsys.readouterr().err and not called


def test_help_is_quick():
    """Help needs no jax, which takes longer to import than a person wants to wait."""
    code = "import sys; from ecr_jax.cli import parse\ntry: parse(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'jax', 'flax', 'transformers', 'datasets', 'scipy'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_an_adapter_on_a_quantised_base(called):
    flags = ["--response.quantize", "nf4", "--response.dtype", "bfloat16", "--response.adapter.rank", "4"]
    flags += ["--response.adapter.patterns", "layers/attention/q", "layers/mlp/.*"]
    flags += ["--response.adapter.rank-pattern", "layers/mlp/.*", "2", "--response.begin-with", "None"]
    assert main(["train", "response", *flags]) == 0
    ((_, (config, _), _),) = called
    assert (config.response.quantize, config.response.dtype) == ("nf4", "bfloat16")
    assert config.response.adapter == LoraConfig(
        ("layers/attention/q", "layers/mlp/.*"), rank=4, alpha=8.0, rank_pattern=(("layers/mlp/.*", 2),)
    )
    assert config.response.begin_with is None
    assert config.conversation.adapter == presets.films_adapter()


def test_the_config_may_come_last(called):
    assert main(["train", "emotion", "--emotion.beta", "0.25", "--config", "redial"]) == 0
    ((_, (config, _), _),) = called
    assert config.name == "redial" and config.emotion.beta == 0.25


def test_evaluate_chat_demo(called):
    assert main(["evaluate", "--split", "valid", "--protocol", "published", "--force"]) == 0
    assert main(["chat", "runs/demo", "--explain", "--items", "2"]) == 0
    assert main(["demo", "--short"]) == 0
    (_, _, first), (_, second, named), (_, _, last) = called
    assert (first["split"], first["protocol"], first["force"]) == (Split.VALID, "published", True)
    assert second == (Path("runs/demo"),) and named["explain"] is True and named["items"] == 2
    assert last["short"] is True


def test_export(called):
    assert main(["export", "runs/demo", "--to", "hf", "--stage", "conversation", "--into", "x", "--unverified"]) == 0
    assert main(["export", "runs/demo", "--to", "recommender"]) == 0
    (_, first, named), (_, second, defaults) = called
    assert first == (Path("runs/demo"), "hf") and second == (Path("runs/demo"), "recommender")
    assert (named["stage"], named["into"], named["unverified"]) == ("conversation", Path("x"), True)
    assert (defaults["stage"], defaults["into"], defaults["unverified"]) == (None, None, False)


def test_compare(called):
    arguments = ["runs/a,runs/b", "c=runs/c:kbrd", "--metrics", "recall@10", "mrr@10", "--every-pair", "--into", "here"]
    assert main(["compare", *arguments]) == 0
    ((_, (runs,), named),) = called
    assert runs == ("runs/a,runs/b", "c=runs/c:kbrd")
    assert named["metrics"] == ("recall@10", "mrr@10") and named["strata"] == () and named["every_pair"] is True
    assert named["split"] is Split.TEST and named["into"] == Path("here") and named["resamples"] == 10_000


def test_unknown_config(called, capsys):
    assert main(["prepare", "--config", "nope"]) == 1
    assert "error: no config 'nope': give one of" in " ".join(capsys.readouterr().err.split())
    assert not called


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "cooking"], "cooking"),
        (["train"], "fusion"),
        (["evaluate", "--protocol", "mine"], "published"),
        (["sweep", "--stage", "emotion"], "recommendation"),
        (["export", "runs/demo"], "stablehlo"),
        (["export", "runs/demo", "--to", "pickle"], "recommender"),
        (["fly"], "fly"),
        (["prepare", "--corpus.dialogues", "many"], "many"),
        (["prepare", "--corpus.colour", "red"], "colour"),
    ],
)
def test_mistyped(called, capsys, arguments, expected):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    assert ended.value.code == 2 and expected in printed.err + printed.out
    assert not called


def test_value_that_cannot_be(called, capsys):
    try:
        status = main(["train", "emotion", "--emotion.beta", "2"])
    except SystemExit as ended:
        status = ended.code
    printed = capsys.readouterr()
    words = " ".join((printed.err + printed.out).replace("│", " ").split())
    assert status in (1, 2) and not called
    assert "Error parsing settings.emotion: EmotionConfig.beta = 2.0 is not allowed" in words and "[0, 1)" in words


@pytest.mark.parametrize(
    ("raised", "status", "expected"),
    [
        (ValueError("[bold]odd[/] words"), 1, "error: [bold]odd[/] words"),
        (CorpusError([BadLine("f", 3, "not JSON")]), 1, "f:3: not JSON"),
        (NotADirectoryError(20, "Not a directory", "runs/x"), 1, "cannot read or write runs/x: Not a directory"),
        (FileNotFoundError(2, "No such file", "gone.jsonl"), 1, "gone.jsonl"),
        (FloatingPointError("step 3: loss is nan"), 1, "step 3: loss is nan"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_errors_are_printed(monkeypatch, capsys, raised, status, expected):
    def fail(*args, **named):
        raise raised

    monkeypatch.setattr(ecr_jax.data.prepare, "prepare", fail)
    assert main(["prepare"]) == status
    printed = capsys.readouterr()
    assert expected in printed.err + printed.out and "Traceback" not in printed.err


def test_a_remote_model_may_manage_what_is_served(monkeypatch, tmp_path, capsys):
    served = {}
    monkeypatch.setattr("ecr_jax.serving.server.serve", lambda run, **options: served.update(options))
    command = ["serve", str(tmp_path), "--llm", "http://localhost:1/v1"]
    assert main(["serve", str(tmp_path)]) == 0 and served["client"] is None
    assert main([*command, "--model", "m", "--timeout", "3"]) == 0
    address = served["client"].address
    assert (address.base_url, address.model, address.timeout, address.retries) == ("http://localhost:1/v1", "m", 3, 0)
    assert main(command) == 1 and "--model" in capsys.readouterr().err
