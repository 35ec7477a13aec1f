"""Times of steps, what was compiled anew, and traces."""

from __future__ import annotations

import dataclasses
import json
import types

import jax
import numpy as np

from ecr_jax.training import watching
from tests.training import toy


def rows(directory):
    return [json.loads(line) for line in (directory / "speed.jsonl").read_text().splitlines()]


def test_a_training_writes_its_speed_and_a_trace(tmp_path):
    token = watching.TRACED.set(range(3, 5))
    try:
        toy.run(tmp_path, config=dataclasses.replace(toy.CONFIG, steps=8, eval_every=4, checkpoint_every=None))
    finally:
        watching.TRACED.reset(token)
    found = rows(tmp_path)
    assert [row["step"] for row in found] == list(range(1, 9))
    assert [row["step"] for row in found if "seconds" not in row] == [1, 5]  # the first, and after the evaluation
    for row in found:
        assert row["memory_mb"] > 0 and row["compilations"] > 0
        if "seconds" in row:
            assert row["seconds"] > 0 and 0 <= row["waiting"] <= 1
            np.testing.assert_allclose(row["examples"] * row["seconds"], round(row["examples"] * row["seconds"]))
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_rows_after_the_restored_step_are_removed(tmp_path):
    (tmp_path / "speed.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    with watching.Watch(tmp_path, 2, 1, print, writes=True):
        pass
    assert [row["step"] for row in rows(tmp_path)] == [1, 2]


def test_tokens_a_second_and_the_shape_that_was_compiled_anew(tmp_path, monkeypatch):
    said = []
    clock = iter([0.0, 0.5, 10.0, 10.0, 11.0, 12.0, 12.0, 20.0, 20.0])
    monkeypatch.setattr(watching, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    step = jax.jit(lambda x: (x * 2).sum())
    with watching.Watch(tmp_path, 0, 1, said.append, writes=True) as watch:
        for number, length in ((1, 4), (2, 4), (3, 5)):
            mask = np.ones((2, length), bool)
            batch = watch.next(iter([{"token_mask": mask, "example": np.zeros(2)}]))
            with watch.step(number, batch, share=0.5):
                step(batch["token_mask"])
            watch.finished(number, 4)
    first, second, third = rows(tmp_path)
    assert "seconds" not in first
    assert (second["seconds"], second["examples"], second["waiting"], second["tokens"]) == (2.0, 2.0, 0.5, 8.0)
    assert (third["seconds"], third["waiting"], third["tokens"]) == (8.0, 1.0, 2.5)
    assert said == ["step 3 was compiled anew, program 2 of 1 expected: token_mask (2, 5)"]
