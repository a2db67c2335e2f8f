"""Checkpoint formats, which map the tensors of files to the variables of our models. They do not import the models."""
