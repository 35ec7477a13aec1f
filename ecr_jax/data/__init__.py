"""What was said: the schema and one reader a corpus."""
