"""The scoring heads: one module each, whose logits are summed; `models.hyperparameters.HeadsConfig` turns them on.

A head that is off, or whose input is missing, has no parameters. `query` gives the vector whose inner products with the
entity table are the first logits; the others add logits [B, I], except `like_probability`, whose log odds of being
liked are apart from them, and `gate`, which splits the summed logits into those of mentioned and of new candidates.
The parameter paths, below "head" in a recommender's parameters::

    query/recency  query/state_norm/{scale,bias}  query/state/{kernel,bias}  query/{entity_pool,token_pool}/...
    prior/scale
    correction  (mixture)
    mixture/{share,kind}  mixture/last_turn/kernel  mixture/PART_recency  mixture/PART_feeling/weights
    aversion/{relations,itself,cooccurrence}  (feeling)
    repetition/recency  repetition/kind  repetition/norm/{scale,bias}  repetition/score/{kernel,bias}
    two_hop/norm/{scale,bias}  two_hop/mention/{kernel,bias}  two_hop/recency  two_hop/relations  two_hop/unit
        two_hop/scale
    cooccurrence/recency  cooccurrence/unit  cooccurrence/scale  (cooccurrence = "mass")
    {repetition,two_hop,cooccurrence}/feeling/weights  (feeling)
    cooccurrence/{down,up,out}/{kernel,bias}  (cooccurrence = "published")
    gate/bias  gate/kind  gate/last_turn/kernel  (repetition = "gate")
    like_probability/logit/{kernel,bias}  like_probability/{item_scale,entity_scale,entity_weight,valence_weight,unit}
"""

from ecr_jax.models.heads.aversion import Aversion
from ecr_jax.models.heads.combined import Heads, Scores, ranking_scores
from ecr_jax.models.heads.cooccurrence import MassCooccurrence, PublishedCooccurrence
from ecr_jax.models.heads.feeling import FeelingWeight, dislike, feelings_of
from ecr_jax.models.heads.like_probability import LikeLogits, LikeProbability
from ecr_jax.models.heads.mixture import Mixture, SimilarFilms
from ecr_jax.models.heads.prior import Prior
from ecr_jax.models.heads.query import PooledQuery
from ecr_jax.models.heads.repetition import Repetition, mention_kind
from ecr_jax.models.heads.repetition_gate import RepetitionGate
from ecr_jax.models.heads.two_hop import Facts, TwoHop, facts_of

__all__ = [
    "Aversion",
    "Facts",
    "FeelingWeight",
    "Heads",
    "LikeLogits",
    "LikeProbability",
    "MassCooccurrence",
    "Mixture",
    "PooledQuery",
    "Prior",
    "PublishedCooccurrence",
    "Repetition",
    "RepetitionGate",
    "Scores",
    "SimilarFilms",
    "TwoHop",
    "dislike",
    "facts_of",
    "feelings_of",
    "mention_kind",
    "ranking_scores",
]
