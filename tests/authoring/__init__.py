"""The author's tools."""
