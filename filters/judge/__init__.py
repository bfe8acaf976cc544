"""Scores by a model that reads a row: an endpoint, a local causal model, or a reward model."""
