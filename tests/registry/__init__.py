"""The registry of consents: items, states, sealing, and the whole way over the control API."""
