"""Conversations: their schema, a reader for each corpus, the built-in corpus, and its preparation."""
