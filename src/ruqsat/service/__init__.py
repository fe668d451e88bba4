"""The use cases, over ports: decide, gather facts, keep the journal."""
