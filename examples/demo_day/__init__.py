"""
A day in a hospital, lived through the sidecar's real interfaces: who asked for what, and what each of them saw.

Run it with ``make demo-day``.  Nobody in it exists: everybody was born in the nineteenth century.
"""
