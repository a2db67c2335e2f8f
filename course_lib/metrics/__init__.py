"""What models are measured by: perplexity, entities found, and the quality of translations."""
