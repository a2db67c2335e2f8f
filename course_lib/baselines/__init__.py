"""Baselines without neural networks, for the models of this course to beat."""
