"""Target `stablehlo`: the recommender as a program that `jax.export` reads, for cpu, cuda, tpu and any batch size."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from jax import export
from safetensors.numpy import load_file

from ecr_jax.export import ranking
from ecr_jax.export.source import Check, Source
from ecr_jax.stages.recommender import context_batch

PROGRAM, PLATFORMS = "recommender.stablehlo", ("cpu", "cuda", "tpu")


def write(source: Source, folder: Path) -> None:
    """Writes the program and what `ranking.write_arrays` does; the arrays are the program's first argument."""
    model = ranking.ranking(source)
    ranking.write_arrays(source, model, folder)
    (rows,) = export.symbolic_shape("b")
    one = context_batch(source.experiment, [_empty(source)])
    inputs = {name: jax.ShapeDtypeStruct((rows, *one[name].shape[1:]), dtype) for name, dtype in model.inputs.items()}
    arrays = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in model.arrays.items()}
    program = export.export(jax.jit(model.__call__), platforms=PLATFORMS)(arrays, inputs)
    (folder / PROGRAM).write_bytes(program.serialize())


def _empty(source: Source) -> dict[str, np.ndarray]:
    """A context without anything in it, for the shapes of a batch."""
    fields = source.experiment.context_spec.fields
    return {field.name: np.zeros(field.shape(dict.fromkeys("TSE", 0)), field.dtype) for field in fields}


def check(source: Source, folder: Path) -> Check:
    """Compares the program's probabilities of the saved examples with those of the run."""
    example, probabilities = ranking.read_example(folder)
    program = export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
    theirs = np.asarray(program.call(load_file(folder / ranking.ARRAYS), example))
    return ranking.compare(probabilities, theirs, f"jax.export {jax.__version__} on {jax.default_backend()}")
