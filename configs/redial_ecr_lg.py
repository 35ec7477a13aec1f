"""ECR[LG] on ReDial: local and global emotion-aware entities, without feedback weights.

Paper:    ECR (RecSys 2024), 6.1 and Table 3, in the preset `improved`.
          The difference to redial.py is what the weights bring.
Commands: as in redial.py, with --config redial_ecr_lg and nothing to prepare: the corpus is redial's, and so is
          each stage that is the same and rests on the same. Then `ecr compare runs/redial runs/redial_ecr_lg`.
Hardware: two CPU cores, 16 GiB.
Time:     as redial.py, less what it takes from there.
"""

import dataclasses

from ecr_jax.config import load

ecr = load("redial")

config = dataclasses.replace(
    ecr,
    name="redial_ecr_lg",
    base="redial",
    recommendation=dataclasses.replace(ecr.recommendation, loss="cross_entropy"),
)
