"""UniCRS on ReDial: ECR's recommender without emotions, global entities and feedback weights.

Paper:    UniCRS (KDD 2022), in the preset `fixed`.
          The difference to redial.py is what all three bring.
Commands: as in redial.py, with --config redial_unicrs and nothing to prepare: the corpus is redial's, and so is
          each stage that is the same and rests on the same. Then `ecr compare runs/redial runs/redial_unicrs`.
Hardware: two CPU cores, 16 GiB.
Time:     as redial.py, less what it takes from there.
"""

import dataclasses

from ecr_jax.config import load

ecr = load("redial")

config = dataclasses.replace(
    ecr,
    name="redial_unicrs",
    base="redial",
    recommender=dataclasses.replace(
        ecr.recommender, prompt=dataclasses.replace(ecr.recommender.prompt, emotions=False, global_entities=False)
    ),
    recommendation=dataclasses.replace(ecr.recommendation, loss="cross_entropy"),
)
