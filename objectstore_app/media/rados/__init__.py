"""The media on RADOS (ADR 8): one medium of `media/api.py` beside the local directory."""
