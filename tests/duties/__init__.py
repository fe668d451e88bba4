"""Who is told of what, and how it gets there."""
