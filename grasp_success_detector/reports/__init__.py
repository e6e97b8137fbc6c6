"""Pages and charts about data sets, trainings, evaluations and comparisons."""
