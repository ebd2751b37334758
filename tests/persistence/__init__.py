"""Tests of ``persistence``; ``journal_disk`` and ``journal_slots`` are their tools."""
