"""Checkpoints in the layout of the Hugging Face hub: one module per family of models, classifiers, and tokenizers."""
