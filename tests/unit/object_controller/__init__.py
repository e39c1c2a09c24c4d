"""Unit tests of object_controller."""
