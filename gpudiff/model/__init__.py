"""Nouns: frozen values that the stages hand to each other.  Imports nothing of gpudiff but itself."""
