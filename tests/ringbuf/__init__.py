"""Tests of the shared-memory rings."""
