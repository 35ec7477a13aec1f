"""UniCRS on ReDial: the knowledge prompt and the language model's state; no emotions, global entities, feedback.

Paper:    UniCRS (KDD 2022), in the numerics of the preset `improved`, without the heads that are not UniCRS's. What the
          emotional parts alone bring is the difference of redial.py to redial_ecr_none.py, which has these heads.
          Without them it learns more slowly, so it has five epochs, of which validation chooses the best.
Commands: as in redial.py, with --config redial_unicrs and nothing to prepare: the corpus is redial's, and so is
          each stage that is the same and rests on the same. Then `ecr compare runs/redial runs/redial_unicrs`.
Hardware: two CPU cores, 16 GiB.
Time:     as redial.py, less what it takes from there; `recommendation` 8 min.
"""

import dataclasses

from ecr_jax.config import HeadOptions, load

ecr = load("redial")

config = dataclasses.replace(
    ecr,
    name="redial_unicrs",
    base="redial",
    recommender=dataclasses.replace(
        ecr.recommender,
        prompt=dataclasses.replace(ecr.recommender.prompt, emotions=False, global_entities=False),
        heads=HeadOptions(copy="none", walk=False, mentions=False, prior=False, liking=False),
    ),
    recommendation=dataclasses.replace(
        ecr.recommendation, loss="cross_entropy", train=dataclasses.replace(ecr.recommendation.train, epochs=5)
    ),
)
