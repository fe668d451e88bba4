"""The pure core: values in, values out.  No files, sockets, clocks, threads or settings."""
