"""Baselines without neural networks, which the models of this course have to beat."""
