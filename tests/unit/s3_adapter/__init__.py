"""Unit tests of s3_adapter."""
