"""UniCRS on ReDial: ECR's recommender without emotions, global entities and feedback weights, all else as in redial.py.

Paper:    UniCRS (KDD 2022), in the preset `fixed`; what ECR adds to it is the difference between the two runs.
Commands: as in redial.py, with --config redial_unicrs; then `ecr compare runs/redial runs/redial_unicrs`.
Hardware: two CPU cores, 16 GiB.
Time:     as redial.py.
"""

import dataclasses

from ecr_jax.config import load

ecr = load("redial")

config = dataclasses.replace(
    ecr,
    name="redial_unicrs",
    recommender=dataclasses.replace(ecr.recommender, emotions_used=False, global_entities=False),
    recommendation=dataclasses.replace(ecr.recommendation, loss="cross_entropy"),
)
