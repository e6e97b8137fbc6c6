"""Run a checkpoint on frames: the classifier, its engines, and the choice among them."""
