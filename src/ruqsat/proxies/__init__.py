"""Proxies before the sidecar: configurations that are safe, and a test of one that runs."""
