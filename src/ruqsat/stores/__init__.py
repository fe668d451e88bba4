"""Adapters to the outside, one module per technology; each matches a port by shape."""
