"""Foreign checkpoint formats, one file each: tables from their configs and tensors to ours. They import no model."""
