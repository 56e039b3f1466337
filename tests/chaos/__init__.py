"""Exactly once, shown by force: real trainings whose processes are killed at every seam."""
