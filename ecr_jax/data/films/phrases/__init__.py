"""The phrases of the built-in corpus, by act and by the emotion that they show; all were written for it."""
