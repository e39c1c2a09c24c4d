"""The object store: an S3 server whose truth is a log and whose index is a view of it."""

__version__ = "0.1.0"
