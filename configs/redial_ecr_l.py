"""ECR[L] on ReDial: local emotion-aware entities, without global ones and feedback weights.

Paper:    ECR (RecSys 2024), 6.1 and Table 3, in the preset `improved`.
          The difference to redial.py is what the latter two bring.
Commands: as in redial.py, with --config redial_ecr_l and nothing to prepare: the corpus is redial's, and so is
          each stage that is the same and rests on the same. Then `ecr compare runs/redial runs/redial_ecr_l`.
Hardware: two CPU cores, 16 GiB.
Time:     as redial.py, less what it takes from there.
"""

import dataclasses

from ecr_jax.config import load

ecr = load("redial")

config = dataclasses.replace(
    ecr,
    name="redial_ecr_l",
    base="redial",
    recommender=dataclasses.replace(
        ecr.recommender, prompt=dataclasses.replace(ecr.recommender.prompt, global_entities=False)
    ),
    recommendation=dataclasses.replace(ecr.recommendation, loss="cross_entropy"),
)
