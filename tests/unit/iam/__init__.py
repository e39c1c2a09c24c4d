"""Unit tests of iam."""
