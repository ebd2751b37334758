"""Tests of the demo: its bots against the real kernels, its set-up against a table of requests, its lines as text."""
