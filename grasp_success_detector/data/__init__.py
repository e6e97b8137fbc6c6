"""Bags, labels, splits and data sets: from recordings to labelled frames."""
