"""The sweep: which trainings a grid is, what they share, and the table by hand; slow: all of it on a small corpus."""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import os
import signal
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from ecr_jax import config as configs
from ecr_jax.cli import main
from ecr_jax.config import registry
from ecr_jax.data.prepare import prepare
from ecr_jax.data.schema import Split
from ecr_jax.evaluation.compare import compare
from ecr_jax.evaluation.rows import ReportRow
from ecr_jax.files import read_jsonl_rows
from ecr_jax.losses.ranking import feedback_cross_entropy
from ecr_jax.runs import sweep
from ecr_jax.runs.sweep import Trial, override, trials
from tests import tiny

DEMO = configs.load("demo")
RECOMMENDATION = registry.find("recommendation")


def planned(losses=(), grid=(), seeds=(0,), stage=RECOMMENDATION, **named):
    return trials(DEMO, stage, losses, grid, seeds, **named)


def test_trials():
    first_sweep = planned(["bpr", "focal(gamma=1)", "bpr"], ["recommender.prompt.dropout=0.1,0.2"], [0, 5])
    assert [(cell.label, cell.seed) for cell in first_sweep] == [
        (f"{loss}, recommender.prompt.dropout={dropout}", seed)
        for loss in ("bpr", "focal(gamma=1)")
        for dropout in ("0.1", "0.2")
        for seed in (0, 5)
    ]
    assert {cell.config.recommender.prompt.dropout for cell in first_sweep} == {0.1, 0.2}
    for cell in first_sweep:
        back = dataclasses.replace(
            cell.config,
            recommender=DEMO.recommender,
            recommendation=dataclasses.replace(
                cell.config.recommendation, loss=DEMO.recommendation.loss, train=DEMO.recommendation.train
            ),
        )
        assert back == DEMO  # nothing else differs
        assert cell.config.recommendation.train == dataclasses.replace(DEMO.recommendation.train, seed=cell.seed)
    assert planned([], [], [0]) == [Trial(DEMO.recommendation.loss, 0, DEMO)]


def test_changes_are_made_one_at_a_time():
    changes = ["recommender.heads.two_hop=False", "recommendation.loss=bpr + focal(gamma=1)"]
    first_sweep = planned([], [], [0], each=changes)
    assert [cell.label for cell in first_sweep] == [DEMO.recommendation.loss, changes[0], "bpr + focal(gamma=1)"]
    assert first_sweep[0].config == DEMO
    assert (first_sweep[1].config.recommender.heads.two_hop, first_sweep[2].config.recommender.heads.two_hop) == (
        False,
        True,
    )
    assert [cell.config.recommendation.loss for cell in first_sweep[:2]] == [DEMO.recommendation.loss] * 2
    assert [cell.label for cell in planned(["bpr"], [], [0], each=changes[:1])] == ["bpr", f"bpr, {changes[0]}"]
    with pytest.raises(
        ValueError, match="--each 'recommender.layers' is not allowed: write PATH=VALUE with a setting of"
    ):
        planned([], [], [0], each=["recommender.layers"])


@pytest.mark.parametrize(("first", "reached"), [("emotion", 3), ("fusion", 2), ("recommendation", 1)])
def test_seeds_reach_the_stages_from_the_first_on(first, reached):
    (cell,) = planned(seeds=[7], seed_from=first)
    assert [getattr(cell.config, stage).train.seed for stage in ("emotion", "fusion", "recommendation")] == [0] * (
        3 - reached
    ) + [7] * reached


def test_override_is_typed_as_the_command_line():
    assert override(DEMO, "recommender.prompt.emotions", "False").recommender.prompt.emotions is False
    assert override(DEMO, "recommender.heads.two_hop", "False").recommender.heads.two_hop is False
    assert override(DEMO, "recommendation.weights.like", "3").recommendation.weights.like == 3.0
    assert override(DEMO, "recommender.layers", "None").recommender.layers is None
    assert override(DEMO, "fusion.train.optim.schedule", "cosine").fusion.train.optim.schedule == "cosine"
    assert override(DEMO, "recommendation.loss", "bpr + 0.5*focal").recommendation.loss == "bpr + 0.5*focal"


@pytest.mark.parametrize(("path", "value"), [("recommender.colour", "red"), ("recommender.layers", "much")])
def test_override_that_cannot_be(path, value, capsys):
    with pytest.raises(SystemExit):
        override(DEMO, path, value)
    assert path.split(".")[1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("losses", "grid", "printed"),
    [
        (["vocal"], [], "there is no loss 'vocal'"),
        (["nowhere:loss"], [], "No module named 'nowhere'"),
        ([], ["recommender.layers"], "--grid 'recommender.layers' is not allowed: write PATH=VALUE,VALUE"),
        (
            [],
            ["corpus.dialogues=3"],
            "with a setting of emotion, encoder, fusion, language_model, recommendation, recommender",
        ),
        ([], ["recommendation.train.seed=1,2"], "seeds are given by --seeds"),
    ],
)
def test_grids_that_cannot_be(losses, grid, printed):
    with pytest.raises(ValueError, match=printed):
        planned(losses, grid, [0])


def test_a_baseline_is_swept_by_its_own_settings():
    kbrd = registry.find("kbrd")
    widths = planned(grid=["baselines.kbrd.width=8,16"], seeds=[3], stage=kbrd)
    assert [trial.config.baselines.kbrd.width for trial in widths] == [8, 16]
    assert {trial.config.baselines.kbrd.train.seed for trial in widths} == {3}
    assert planned(stage=kbrd)[0].label == "kbrd"
    with pytest.raises(ValueError, match="--losses is not allowed: 'kbrd' has a loss of its own"):
        planned(["bpr"], stage=kbrd)
    with pytest.raises(ValueError, match="--seed-from 'fusion' is not allowed: 'kbrd' is trained after emotion, kbrd"):
        planned(stage=kbrd, seed_from="fusion")
    with pytest.raises(ValueError, match="--grid 'recommender.heads.prior=False' is not allowed"):
        planned(grid=["recommender.heads.prior=False"], stage=kbrd)


def test_a_number_is_the_same_however_it_is_written(tmp_path, monkeypatch):
    """The command line makes floats of what configs write as whole numbers; a cell is the same, and its folder."""
    manifest = SimpleNamespace(corpus=SimpleNamespace(manifest={"corpus": {}, "inputs": {}}))
    monkeypatch.setattr(sweep, "open_experiment", lambda config: manifest)
    trainer = sweep.Trainer(DEMO, RECOMMENDATION, tmp_path)
    actual = {
        str(value): trainer.digest(override(DEMO, "recommendation.weights.like", str(value)), RECOMMENDATION)
        for value in (3, 3.0, 3.5)
    }
    assert len(set(actual.values())) == 2
    whole = dataclasses.replace(DEMO, recommendation=dataclasses.replace(
        DEMO.recommendation, weights=dataclasses.replace(DEMO.recommendation.weights, like=3)))  # fmt: skip
    assert trainer.digest(whole, RECOMMENDATION) == actual["3.0"]


def test_command_line(monkeypatch):
    calls = []
    monkeypatch.setattr(sweep, "run", lambda *args, **named: calls.append((*args, named)))
    flags = ["--losses", "bpr", "focal(gamma=1) + 0.5*bpr", "--seeds", "3", "4", "--grid", "fusion.train.steps=1,2"]
    assert main(["sweep", *flags, "--recommender.layers", "1", "--seed-from", "fusion"]) == 0
    ((config, named),) = calls
    assert named.pop("console") and config.recommender.layers == 1 and config.name == "demo"
    assert named == {
        "losses": ("bpr", "focal(gamma=1) + 0.5*bpr"), "seeds": (3, 4), "grid": ("fusion.train.steps=1,2",),
        "each": (), "seed_from": "fusion", "stage": "recommendation", "split": Split.VALID, "folder": "sweep",
    }  # fmt: skip


def squares(*, logits, targets, where, scale=1.0):
    """A loss from outside the package."""
    return scale * jnp.sum(jnp.where(where, jnp.take_along_axis(logits, targets, axis=1) ** 2, 0), axis=1)


def broken(*, logits, targets, where):
    return jnp.sum(jnp.where(where, jnp.nan, 0), axis=1) * feedback_cross_entropy(
        logits=logits, targets=targets, where=where, weights=jnp.ones(targets.shape)
    )


LOSSES = "normalised_cross_entropy + 0.5*pairwise_dialogue", f"{__name__}:squares(scale=0.1)"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A config whose corpus is prepared and which has no stage yet; two steps, each looked at."""
    config = tiny.tiny_config(tmp_path_factory.mktemp("sweep"))
    prepare(config, console=Console(quiet=True))
    train = dataclasses.replace(config.recommendation.train, eval_every=1)
    return dataclasses.replace(config, recommendation=dataclasses.replace(config.recommendation, train=train))


def swept(config, **changes):
    console = Console(file=io.StringIO(), width=250)
    settings = {"losses": LOSSES, "seeds": (0, 1), "console": console} | changes
    return sweep.run(config, **settings), console.file.getvalue()


def trained(root):
    """Every file of parameters under a folder, and when it was written."""
    return {path.relative_to(root): path.stat().st_mtime_ns for path in root.rglob("params.safetensors")}


@pytest.fixture(scope="module")
def first_sweep(base):
    """Two losses, two seeds, nothing trained before."""
    return swept(base)


@pytest.mark.slow
def test_one_table(base, first_sweep):
    (table, printed), root = first_sweep, base.runs / "sweep"
    written = json.loads((root / "report.json").read_text())
    assert [ReportRow.from_json(row) for row in written["rows"]] == list(table.rows)
    assert {row.model for row in table.rows} == {*LOSSES, f"{LOSSES[1]} - {LOSSES[0]}"}
    assert all(np.isfinite(row.value) for row in table.rows) and {row.split for row in table.rows} == {"valid"}
    assert all(loss in printed for loss in LOSSES)
    described = written["provenance"]["trials"]
    assert [(cell["model"], cell["seed"]) for cell in described] == [(loss, seed) for loss in LOSSES for seed in (0, 1)]
    actual = table.value(LOSSES[0], "ndcg@10")
    assert len(actual.seeds) == 2 and actual.value == pytest.approx(np.mean(actual.seeds))


@pytest.mark.slow
def test_what_trials_share_is_trained_once(base, first_sweep):
    root = base.runs / "sweep"
    assert sorted(path.name for path in (base.runs / "tiny").iterdir()) == ["config.json", "emotion", "fusion"]
    folders = [path / "tiny" for path in root.iterdir() if path.is_dir()]
    assert len(folders) == 4
    for folder in folders:
        for stage in ("emotion", "fusion"):
            assert (folder / stage).is_symlink() and (folder / stage).samefile(base.runs / "tiny" / stage)
        configs.read_run(folder, sweep.chain(RECOMMENDATION, base))  # a run as any other
    groups = [f"{number}={folder}" for number, folder in enumerate(folders)]  # which `ecr compare` reads
    compared = compare(groups, split=Split.VALID, into=root / "compared", console=Console(file=io.StringIO()))
    assert "left out" not in compared.provenance
    for folder in folders:
        (read,) = read_jsonl_rows(folder / "valid" / "reads.jsonl")
        assert read["parameters"]
    learned = [(folder / "recommendation" / "params.safetensors").read_bytes() for folder in folders]
    assert len(set(learned)) == 4  # losses and seeds end elsewhere
    log = next(root.glob("normalised*seed0*/tiny/recommendation/metrics.jsonl")).read_text().split("\n")[0]
    assert {"pairwise_dialogue", "normalised_cross_entropy", "cross_entropy"} <= json.loads(log).keys()


@pytest.mark.slow
def test_swept_again_is_nothing_to_do(base, first_sweep):
    before = trained(base.runs)
    again, _ = swept(base)
    assert trained(base.runs) == before and again.rows == first_sweep[0].rows


@pytest.mark.slow
def test_an_earlier_stage_that_differs_is_trained_again(base, first_sweep):
    before = trained(base.runs)
    swept(base, losses=LOSSES[:1], seeds=(0,), grid=["fusion.train.batch_size=4"])
    new = trained(base.runs).keys() - before.keys()
    assert sorted(path.parts[1][:6] for path in new) == ["fusion", "normal"]
    assert before.items() <= trained(base.runs).items()


@pytest.mark.slow
def test_a_trial_that_fails_leaves_the_others(base, first_sweep):
    with pytest.raises(FloatingPointError, match="1 of 2 trials are not in the table: .*broken, seed 0"):
        swept(base, losses=(f"{__name__}:broken", LOSSES[0]), seeds=(0,))
    written = json.loads((base.runs / "sweep" / "report.json").read_text())
    assert {row["model"] for row in written["rows"]} == {LOSSES[0]}
    assert written["provenance"]["failed"] == [f"{__name__}:broken, seed 0"]
    assert written["provenance"]["trials"] == first_sweep[0].provenance["trials"][:1]  # which was trained before


@pytest.mark.slow
def test_interrupted_and_resumed_is_the_same(base, first_sweep, monkeypatch):
    module = importlib.import_module("ecr_jax.stages.recommendation")
    measure = module.ranking_metrics

    def kill(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return measure(*args)

    one = {"losses": LOSSES[:1], "seeds": (1,), "folder": "cut"}
    with monkeypatch.context() as patch:
        patch.setattr(module, "ranking_metrics", kill)
        with pytest.raises(SystemExit):
            swept(base, **one)
    assert not (base.runs / "cut" / "report.json").exists()
    swept(base, **one)
    cut, whole = (
        next((base.runs / folder).glob("normalised*seed1*/tiny/recommendation/params.safetensors"))
        for folder in ("cut", "sweep")
    )
    assert cut.read_bytes() == whole.read_bytes()
