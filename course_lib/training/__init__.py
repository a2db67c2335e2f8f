"""Training, and the experiments whose results chapters draw from."""
