"""From a dialogue to a ranked list and a reply."""
