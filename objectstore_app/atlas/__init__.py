"""Background work on stored data: consistency check and what follows from it."""
