"""A disk in the tests' hands: it records what is asked of it, fails on demand, and loses power."""
