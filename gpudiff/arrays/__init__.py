"""Verbs on bare arrays: one operation a file, its NumPy body the definition.  Imports model.errors only."""
