"""The commands behind every figure in the README, and their results."""
