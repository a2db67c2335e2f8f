"""Checkpoints: one module per format, which maps files to the variables of our models. It imports no model."""
