"""Pretrained models: from the name of a model to its weights and tokenizer, and adapters on disk."""
