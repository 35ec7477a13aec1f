"""What is known: the graph, linking, co-occurrence and reviews."""
