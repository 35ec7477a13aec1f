"""`ecr export`: every target is read by its consumer, computes what the run computes, or leaves nothing behind."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file, save_file

from ecr_jax.evaluation import report
from ecr_jax.evaluation.rows import ReportRow
from ecr_jax.export import merged, numpy_recommender, targets
from ecr_jax.export.run import export
from ecr_jax.files import write_json
from ecr_jax.models.lm.gpt2 import Gpt2Config
from tests import random_run, tiny

QUIET = Console(quiet=True)
LIGHT = [
    ("gguf", "response"),
    ("gguf", "conversation"),
    ("orbax", "response"),
    pytest.param("orbax", "recommendation", marks=pytest.mark.slow),
    pytest.param("stablehlo", "recommendation", marks=pytest.mark.slow),
]
TORCH = [("hf", "response"), ("hf", "conversation"), ("peft", "response"), ("peft", "conversation"), ("vllm", None)]


@pytest.fixture
def without_torch(monkeypatch):
    """As if neither torch nor peft were installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("torch", "peft") else find(name))


@pytest.fixture(scope="module")
def recommender(run, tmp_path_factory):
    """The folder of an export to `recommender`."""
    return export(run.folder, "recommender", into=tmp_path_factory.mktemp("exports") / "out", console=QUIET)


def manifest_of(folder):
    """The manifest, after its checksums and the card were compared with the files."""
    manifest = json.loads((folder / "manifest.json").read_text())
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert paths.keys() - manifest["files"].keys() == {"manifest.json"}
    for name, entry in manifest["files"].items():
        content = paths[name].read_bytes()
        assert entry == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return manifest


@pytest.mark.parametrize(("to", "stage"), LIGHT)
def test_a_light_consumer_computes_what_the_run_computes(run, tmp_path, to, stage):
    if to == "stablehlo":
        pytest.importorskip("flatbuffers")
    manifest = manifest_of(export(run.folder, to, stage=stage, into=tmp_path / "out", console=QUIET))
    assert manifest["verified"] is True and (manifest["target"], manifest["run"]) == (to, "tiny")
    check = manifest["check"]
    assert check["cases"] >= 2 and 0 <= check["difference"] <= check["tolerance"] < 1e-3


def test_what_a_manifest_says(recommender):
    manifest = manifest_of(recommender)
    assert manifest["verified"] is True and manifest["check"]["reader"].startswith("numpy ")
    assert manifest["config"]["corpus"]["name"] == "jsonl" and manifest["selection"]["best"]["value"] == 0.5
    assert manifest["licences"]["model model.gguf"].startswith("not known to ecr_jax")
    assert manifest["check"]["cases"] >= 2 and manifest["check"]["difference"] <= 1e-4


@pytest.mark.parametrize(("to", "stage"), [("hf", "conversation"), ("peft", "response")])
def test_without_its_consumer_an_export_says_so(run, tmp_path, without_torch, to, stage):
    with pytest.raises(ValueError, match="not verified by .*: install torch.* --unverified"):
        export(run.folder, to, stage=stage, into=tmp_path / "out", console=QUIET)
    assert not list(tmp_path.iterdir())
    folder = export(run.folder, to, stage=stage, into=tmp_path / "out", console=QUIET, unverified=True)
    manifest = manifest_of(folder)
    assert "install torch" in manifest["verified"] and manifest["check"]["reader"] == "ecr_jax"
    assert manifest["check"]["difference"] <= 1e-4
    card = (folder / "README.md").read_text()
    assert manifest["verified"] in card and ("knowledge prompt" in card) == (stage == "conversation")
    notes = manifest["check"]["notes"]
    assert (["int8" in note for note in notes] == [True]) if stage == "response" else not notes


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("to", "stage"), TORCH)
def test_transformers_and_peft_compute_what_the_run_computes(run, tmp_path, to, stage):
    manifest = manifest_of(export(run.folder, to, stage=stage, into=tmp_path / "out", console=QUIET))
    assert manifest["verified"] is True and "transformers" in manifest["check"]["reader"]
    assert manifest["check"]["difference"] <= 1e-4


def test_a_wrong_export_is_no_export(run, tmp_path, without_torch, monkeypatch):
    write = merged.write

    def write_wrong(source, folder):
        write(source, folder)
        tensors = load_file(folder / "model.safetensors")
        tensors["model.layers.1.self_attn.q_proj.weight"] *= -1
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(merged, "write", write_wrong)
    with pytest.raises(ValueError, match="nothing is exported: ecr_jax computes other logits from it than the run"):
        export(run.folder, "hf", into=tmp_path / "out", console=QUIET, unverified=True)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_named(run, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="there is there already; name a new folder"):
        export(run.folder, "recommender", into=tmp_path / "there", console=QUIET)
    with pytest.raises(ValueError, match="not the folder of a run"):
        export(tmp_path, "recommender", console=QUIET)
    with pytest.raises(ValueError, match="--to recommender exports recommendation, not 'response'"):
        export(run.folder, "recommender", stage="response", console=QUIET)
    with pytest.raises(ValueError, match="no export target 'pickle'; choose one of hf, "):
        export(run.folder, "pickle", console=QUIET)
    write_json(tmp_path / "run" / "config.json", {})
    with pytest.raises(ValueError, match="no trained stage 'recommendation'; run `ecr train recommendation`"):
        export(tmp_path / "run", "recommender", console=QUIET)


def test_targets_have_what_the_command_calls():
    for target in targets.TARGETS:
        module = importlib.import_module(f"ecr_jax.export.{target.module}")
        assert callable(module.write) and callable(module.check) and "{name}" in target.usage


def test_the_reader_needs_numpy_alone(recommender, tmp_path):
    """The folder's own program ranks the saved examples, and imports nothing else."""
    folder = recommender
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')\n"
        "assert not {'jax', 'flax', 'safetensors', 'ecr_jax', 'scipy'} & set(sys.modules)"
    )
    program = [sys.executable, "-I", "-c", code, str(folder / "recommender.py")]
    printed = subprocess.run(program, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert "example 1: " in printed and "(1" in printed
    assert float(printed.split("largest difference from the run: ")[1]) < 1e-5
    reader = numpy_recommender.Recommender(folder)
    example = numpy_recommender.read_safetensors(folder / "example.safetensors")
    expected = load_file(folder / "example.safetensors")
    assert example.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(example[name], array)
    probabilities = example.pop("probabilities")
    ((title, probability), second), *_ = reader.ranking(probabilities, k=2)
    assert probability == probabilities[0].max() >= second[1]
    assert title == reader.entities[reader.items[probabilities[0].argmax()]]["title"]
    declared = {field["name"] for field in reader.settings["inputs"]}
    assert declared | {field["mask"] for field in reader.settings["inputs"] if field["mask"]} == example.keys()


def test_the_model_card_has_the_measures_of_the_report(run, tmp_path):
    rows = [
        ReportRow("ecr", "films", "test", "all", metric, value, value - 0.1, value + 0.1, 40)
        for metric, value in {"bleu@2": 0.375, "recall@10": 0.125}.items()
    ]
    folder = run.folder / "test"
    report.write(report.Report(tuple(rows)), folder)
    try:
        exported = export(run.folder, "gguf", stage="conversation", into=tmp_path / "out", console=QUIET)
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    card = (exported / "README.md").read_text()
    assert "| test | ecr | bleu@2 | 0.375 | [0.275, 0.475] | 40 |" in card and "recall@10" not in card
    assert [row["value"] for row in manifest_of(exported)["measures"]] == [0.375]


PUBLISHED = {
    "emotion_fusion": "published", "masked": False, "normalise": False, "emotion_table": "direct",
    "cross_attention_exponent": 0.25,
}  # fmt: skip
VARIANTS = {
    "gate": ({}, {"repetition": "gate", "like_probability": False}, "last"),
    "published": (PUBLISHED, {"query": "state", "cooccurrence": "published", "two_hop": False}, "all"),
    "linear": ({"emotion_fusion": "linear", "global_entities": False}, {"prior": False, "repetition": "none"}, "all"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_the_numpy_reader_follows_the_settings(tmp_path, name):
    prompt, heads, visibility = VARIANTS[name]
    (tmp_path / "other").mkdir()
    defaults = tiny.tiny_config(tmp_path / "other").recommender
    changes = {
        "prompt": dataclasses.replace(defaults.prompt, **prompt),
        "heads": dataclasses.replace(defaults.heads, **heads),
        "prefix_visibility": visibility,
        "layers": 2,
    }
    gpt2 = Gpt2Config(280, 16, 2, 2, 24, positions=512) if name == "published" else None
    (tmp_path / "run").mkdir()
    config = random_run.write(tmp_path / "run", gpt2, recommender=changes)
    manifest = manifest_of(export(config.folder, "recommender", into=tmp_path / "out", console=QUIET))
    assert manifest["check"]["difference"] <= 1e-4
