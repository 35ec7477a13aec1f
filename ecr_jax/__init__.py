"""ECR in JAX: an empathetic conversational recommender, from raw dialogues to a chat."""
