"""Processes that stand for process code under supervision, and nothing else: they start, are ready, wait, and stop."""
