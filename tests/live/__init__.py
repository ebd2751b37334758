"""Tests through the live processes of real exchanges; each start of one takes seconds, so that they are few."""
