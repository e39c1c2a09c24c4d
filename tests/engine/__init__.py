"""Tests of the engine: media, metadata service, fsck."""
