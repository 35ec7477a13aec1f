"""Pure mathematics over arrays and parameter trees (flax.linen); no files, no text."""
