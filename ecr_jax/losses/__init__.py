"""Pure per-example losses and what names them; importing this package alone imports no jax.

- `ranking`: losses of the recommendation stage by name (`RANKING`), and the arrays that they read (`INPUTS`).
- `next_token`: cross-entropy of a language model, chunked over the vocabulary.
- `expression`: the syntax of `recommendation.loss`, such as "focal(gamma=1) + 0.5*feedback_bce"; imports no jax.
- `policy`: policy-gradient losses of tokens, averages, advantages, and the published estimators that combine them.
- `rewards`: what the outputs of a policy earn, by name.
- `named`: finds the functions that an expression names, other packages' included.
- `objective`: finds the losses of an expression, other packages' included, and makes one training objective of them.
"""
