"""Checkpoints in the Hugging Face layout: one module for each family of models, one for heads, one for tokenizers."""
