"""What the benchmarks count and compare, against numbers computed by hand; nothing is timed here."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro
from rich.console import Console

from benchmarks import recommendation, tables, untrained
from benchmarks.common import matrix_flops
from ecr_jax import config as configs
from ecr_jax.data.prepare import prepare
from ecr_jax.evaluation import report as reports
from ecr_jax.evaluation.rows import ReportRow
from ecr_jax.evaluation.tables import RANKING as SHOWN
from ecr_jax.evaluation.tables import cell_lines
from ecr_jax.models.lm.bert import BertConfig
from ecr_jax.models.lm.gpt2 import Gpt2Config
from tests import tiny

ENCODER = BertConfig(vocab_size=11, width=8, layers=3, heads=2, hidden=20, positions=16, token_types=1)
ROWS, STATES = 4, 5


def test_products_are_counted_as_often_as_they_run():
    x, w = jnp.zeros((3, 5)), jnp.zeros((5, 5))

    def repeated(x, w, length):
        return jax.lax.scan(lambda x, _: (x @ w, None), x, None, length)[0].sum()

    assert matrix_flops(lambda x, w: x @ w, x, w) == 2 * 3 * 5 * 5
    assert matrix_flops(jax.jit(lambda x, w: repeated(x, w, 7)), x, w) == 7 * 2 * 3 * 5 * 5
    # backwards each product becomes two: for x and for w
    assert matrix_flops(jax.grad(lambda w: repeated(x, w, 7)), w) == 3 * 7 * 2 * 3 * 5 * 5
    # what is computed again counts again
    again = jax.checkpoint(lambda w: jnp.sin(x @ w).sum())
    assert matrix_flops(jax.grad(again), w) == 3 * 2 * 3 * 5 * 5


def test_random_graph_has_the_published_size():
    graph = recommendation.random_graph()
    assert (len(graph), graph.triples.shape, len(graph.relations), len(graph.items)) == (31_161, (81_332, 3), 25, 6_281)
    assert len(np.unique(graph.triples, axis=0)) == 81_332 and graph.triples[:, 1].max() < 24
    assert len(graph.message_edges()[0]) == pytest.approx(186_685, rel=0.001)


def test_shares_and_ratios_of_a_case():
    """8 targets in 4 s, 600 GFLOP at 200 GFLOP/s: the floor is 3 s, three quarters of the time."""
    config = recommendation.with_batch(configs.load("redial_paper"), 8, 1)
    case = recommendation.Case(config, Gpt2Config(7, 8, 1, 2, 8), 8)
    rows = {row.metric: row for row in recommendation.rows_of("x", case, 4.0, 600e9, 200.0, 2**10)}
    assert rows["time a target"].value == 0.5 and rows["time a target"].ratio == pytest.approx(37.9 / 16 / 0.5)
    assert rows["time a step"].peer == pytest.approx(37.9 / 2)
    assert rows["time a target at the peer's peak"].value == pytest.approx(0.5 * 200 / 180)
    assert rows["floor"].value == 3.0 and rows["share of matmul peak"].value == 0.75
    assert rows["peak memory"].value == pytest.approx(1.073741824)
    alone = recommendation.rows_of("x", dataclasses.replace(case, published=False), 4.0, 600e9, 200.0, 2**10)
    assert all(row.peer is None for row in alone)


@pytest.fixture(scope="module")
def graph():
    return recommendation.random_graph(entities=40, triples=60, relations=4, items=12, loops=30)


@pytest.fixture(scope="module")
def case():
    """The published step at a tiny size."""
    config = configs.load("redial_paper")
    sizes = dict(max_tokens=6, max_states=STATES, max_entities=3, neighbours=4)
    settings = dataclasses.replace(config.recommender, **sizes)
    config = recommendation.with_batch(dataclasses.replace(config, recommender=settings), ROWS, 1)
    return recommendation.Case(config, Gpt2Config(13, width=16, layers=2, heads=2, hidden=24), ENCODER.width)


@pytest.mark.slow
def test_step_trains_and_an_encoder_inside_adds_its_forward_pass(case, graph):
    cached = recommendation.Training(case, graph)
    before = jax.tree.map(np.asarray, cached.state["params"])
    assert np.isfinite(cached()["loss"])  # the published schedule's first rate is 0
    assert np.isfinite(cached()["loss"])
    moved = jax.tree.map(lambda old, new: bool((old != new).any()), before, cached.state["params"])
    assert moved["encoder"]["nodes"] and moved["encoder"]["key_values"]["kernel"]

    inside = recommendation.Training(dataclasses.replace(case, encoder=ENCODER), graph)
    tokens, width, hidden = ROWS * STATES, ENCODER.width, ENCODER.hidden
    layer = 2 * tokens * (4 * width**2 + 2 * width * hidden) + 4 * tokens * STATES * width
    assert inside.flops - cached.flops == ENCODER.layers * layer


@pytest.mark.slow
def test_micro_batches_count_the_graph_each_time(case, graph):
    """Twice the rows in two micro-batches are two steps of products."""
    twice = dataclasses.replace(case, config=recommendation.with_batch(case.config, 2 * ROWS, 2))
    assert recommendation.Training(twice, graph).flops == 2 * recommendation.Training(case, graph).flops


@pytest.mark.parametrize("name", ["linking", "lm", "quantized", "recommendation", "rgcn", "tables", "writers"])
def test_every_benchmark_starts(name, monkeypatch, capsys):
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        tyro.cli(module.main) if name in ("tables", "writers") else module.main()
    assert not stopped.value.code and ("--csv" if name == "tables" else "--json") in capsys.readouterr().out


ROW = ReportRow("ecr", "films", "test", "all", "recall@10", 0.1 + 0.2, 0.25, 0.35, 8, seeds=(0.25, 0.1 + 0.25))
RESULTS = (
    ROW,
    dataclasses.replace(ROW, metric="recall@50", value=0.5, low=None, high=None, seeds=()),
    dataclasses.replace(ROW, model="popularity", value=0.125, seeds=()),
    dataclasses.replace(ROW, model="ecr - popularity", value=0.175, p=0.01, p_holm=0.03, seeds=()),
    dataclasses.replace(ROW, stratum="head", metric="mrr@10"),
)


@pytest.fixture
def results(tmp_path):
    """A report, and the CSV of what its tables show."""
    source = {"commit": "abc", "command": "ecr x", "hardware": "cpu", "python": "3", "jax": "0", "counts": {"a": 1}}
    reports.write(reports.Report(RESULTS, source), tmp_path)
    tables.export(tmp_path / "report.json", tmp_path / "films.csv")
    return tmp_path


def test_rows_survive_csv_exactly(results):
    """A number that no table shows is not exported; the others are the same to the last digit, and so is the page."""
    assert tables.read_rows(results / "films.csv") == list(RESULTS[:-1])
    assert tables.read_provenance(results / "films.csv") == {
        "commit": "abc", "command": "ecr x", "hardware": "cpu", "python": "3", "jax": "0"
    }  # fmt: skip
    whole, exported = (tables.all_tables(results / name, ()) for name in ("report.json", "films.csv"))
    assert whole == exported and "p 0.030" in whole and whole.endswith("Commit abc, `ecr x`, cpu, jax 0.")
    tables.export(results / "report.json", results / "head.csv", strata=["head"])
    assert tables.read_rows(results / "head.csv") == [RESULTS[-1]]
    assert set(json.loads((results / "provenance.json").read_text())) == {"films.csv", "head.csv"}
    (results / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="expected model, corpus"):
        tables.read_rows(results / "other.csv")


def test_small_table_is_put_between_marks(results):
    page = results / "README.md"
    page.write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")
    tables.main(results / "films.csv", page, metrics=("recall@10", "recall@50"), models=("popularity", "ecr"))
    assert page.read_text() == (
        "before\n<!-- results -->\n"
        "| model | recall@10 | recall@50 |\n| --- | --- | --- |\n"
        "| popularity | 0.125 [0.250, 0.350] | – |\n| ecr | 0.300 [0.250, 0.350] | 0.500 |\n\n"
        "n = 8 targets (all), 95 % intervals over dialogues; commit abc.\n"
        "<!-- /results -->\nafter\n"
    )
    assert "| popularity | 0.125 |" in tables.small_table(results / "films.csv", ["recall@10"], [], intervals=False)
    with pytest.raises(ValueError, match="has no model 'unicrs'; choose from ecr, ecr - popularity, popularity"):
        tables.small_table(results / "films.csv", ["recall@10"], ["unicrs"])
    with pytest.raises(ValueError, match="once each"):
        tables.insert("text", page, "redial")


def test_committed_results_are_small_and_their_pages_are_of_clean_commits():
    """The pages under docs/results have the rows of the files beside them, measured at commits without changes."""
    folder = Path(__file__).parents[1] / "docs" / "results"
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 400_000
    sources = json.loads((folder / "provenance.json").read_text())
    assert sources.keys() == {path.name for path in folder.glob("*.csv")}
    assert not any("-dirty" in path.read_text() for path in folder.rglob("*.*"))
    text = "".join(path.read_text() for path in folder.glob("*.md"))
    for path in folder.glob("*.csv"):
        rows = tables.read_rows(path)
        assert rows and all(" ".join(cell_lines(row)) in text for row in rows if row.metric in SHOWN)


def test_untrained_baselines_need_a_prepared_corpus_alone(tmp_path):
    config = tiny.tiny_config(tmp_path)
    prepare(config, console=Console(quiet=True))
    report = untrained.measure(config)
    models = {row.model for row in report.rows if not row.is_difference}
    assert models == {"popularity", "copy-last", "co-occurrence", "nearest contexts", "hybrid"}
    assert {row.split for row in report.rows} == {"valid"} and report.value("hybrid", "recall@10").value == 1
    assert not config.runs.exists()


COMMANDS = {path.stem for path in Path("benchmarks").iterdir() if path.suffix in ("", ".py") and path.stem[0] != "_"}


def module_docstring(name):
    path = Path("benchmarks", name)
    source = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(COMMANDS - {"common"}))
def test_each_benchmark_is_a_command(name):
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0 and "usage" in done.stdout
    documented = re.findall(rf"python -m benchmarks\.{name}\b.*?(?:\n\n|\Z)", module_docstring(name), re.DOTALL)
    options = {option for usage in documented for option in re.findall(r"--[a-z-]+", usage)}
    assert documented and not [o for o in options if not re.search(rf"{o}(?![\w-])", done.stdout)]
