"""What the models read: token sequences, examples and batches."""
