"""Tests of the deployment side: pure planning, provider, substrate, program."""
