"""Generators of deterministic order flow with the results that a correct exchange must produce."""
