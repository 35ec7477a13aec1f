"""What a run stands on, and commands made of several runs."""
