from __future__ import annotations

import subprocess
import sys

import pytest

from ecr_jax.data import films
from ecr_jax.data.schema import Split, read_conversations

pytest.importorskip("tensorflow_datasets", reason="the extra `tfds` is not installed")
pytest.importorskip("array_record", reason="the extra `tfds` is not installed")

# In a process of its own: TFDS warns on import, and what it loads is part of the claim.
_PREPARE = """
import sys
from ecr_jax.data.film_dialogues_tfds.film_dialogues_dataset_builder import FilmDialogues, conversations
from ecr_jax.data.schema import write_conversations
from pathlib import Path
table, folder = map(Path, sys.argv[1:])
builder = FilmDialogues(table=table, seed=3, dialogues=20, data_dir=folder / "tfds")
builder.download_and_prepare()
for split in ("train", "validation", "test"):
    source = builder.as_data_source(split)
    write_conversations(folder / f"{split}.parquet", conversations(source, split))
assert "tensorflow" not in sys.modules, "TensorFlow was imported"
"""


def test_the_builder_gives_the_corpus_back_without_tensorflow(film_table, tmp_path):
    command = [sys.executable, "-c", _PREPARE, str(film_table), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    generated = films.generate(film_table, seed=3, dialogues=20, reviews=0).conversations
    for name, split in (("train", Split.TRAIN), ("validation", Split.VALID), ("test", Split.TEST)):
        assert read_conversations(tmp_path / f"{name}.parquet") == [c for c in generated if c.split == split]
