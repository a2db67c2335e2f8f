"""Metrics: perplexity, bits per byte, reports on classifiers, F1 by entity, and the quality of translations."""
