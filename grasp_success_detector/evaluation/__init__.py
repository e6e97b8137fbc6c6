"""How right a classifier is, in numbers: attempts, metrics with intervals, comparison."""
