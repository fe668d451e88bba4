"""
Ruqsat (рұқсат, "permission"): an authorization sidecar for digital health.

Importing this package does nothing; the process is built by ``ruqsat.wiring``.
"""

__version__ = "0.1.0"
