"""Serves S3 over HTTP: one module per group of operations, on top of the object controller."""
