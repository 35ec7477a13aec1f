"""Models as pure functions of arrays and parameter trees (flax.linen); no files, no text."""
