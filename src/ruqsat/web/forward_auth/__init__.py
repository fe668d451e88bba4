"""Forward-auth: one module per proxy dialect, from one shared core."""
