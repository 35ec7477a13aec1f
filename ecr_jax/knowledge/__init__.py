"""The knowledge graph, entity linking, co-occurrence and reviews."""
