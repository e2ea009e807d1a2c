"""Zero-shot evaluation: tasks, data set readers, metrics and the results table."""
