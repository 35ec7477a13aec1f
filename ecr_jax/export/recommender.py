"""Target `recommender`: arrays, settings and vocabularies, with a reader that needs numpy alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from ecr_jax.export import numpy_recommender, ranking
from ecr_jax.export.source import Check, Source

READER = "recommender.py"


def write(source: Source, folder: Path) -> None:
    """Writes what `ranking.write_arrays` does, the tokenizer, and the reader."""
    model = ranking.ranking(source)
    ranking.write_arrays(source, model, folder)
    model.setup.tokenizer.tokenizer.save_pretrained(str(folder / "tokenizer"))
    shutil.copyfile(numpy_recommender.__file__, folder / READER)


def check(source: Source, folder: Path) -> Check:
    """Compares the reader's probabilities of the saved examples with those of the run."""
    example, probabilities = ranking.read_example(folder)
    theirs = numpy_recommender.Recommender(folder)(example)
    return ranking.compare(probabilities, theirs, f"numpy {np.__version__}")
