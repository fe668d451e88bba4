"""What helps to write rules: formatting, tracing, coverage, mutation, comparison of two sets, the map of the law."""
