"""Settings of an experiment."""

from ecr_jax.config.schema import *  # noqa: F403
from ecr_jax.config.schema import FIDELITY, PLACE, folder, from_json, names, read_recorded  # noqa: F401
