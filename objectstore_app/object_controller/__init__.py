"""Object I/O: write path, read path, multipart, copy."""
