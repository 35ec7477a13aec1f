"""Emotions: ECR's nine labels, and the GoEmotions corpus mapped to them."""
