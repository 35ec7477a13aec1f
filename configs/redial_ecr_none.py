"""ECR[] on ReDial: all of redial.py but emotions, global entities and the seeker's feedback.

Paper:    ECR (RecSys 2024), 6.1, in the preset `improved`: what stays is UniCRS with the heads that this preset adds.
          The difference to redial.py is what the paper's parts bring together.
Commands: as in redial.py, with --config redial_ecr_none and nothing to prepare: the corpus is redial's, and so is
          each stage that is the same and rests on the same. Then `ecr compare runs/redial runs/redial_ecr_none`.
Hardware: two CPU cores, 16 GiB.
Time:     as redial.py, less what it takes from there.
"""

import dataclasses

from ecr_jax.config import load

ecr = load("redial")

config = dataclasses.replace(
    ecr,
    name="redial_ecr_none",
    base="redial",
    recommender=dataclasses.replace(
        ecr.recommender, prompt=dataclasses.replace(ecr.recommender.prompt, emotions=False, global_entities=False)
    ),
    recommendation=dataclasses.replace(ecr.recommendation, loss="cross_entropy"),
)
