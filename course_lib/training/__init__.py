"""Training: losses, optimizers, schedules, pre-training from recipes, fine-tuning and adaptation."""
