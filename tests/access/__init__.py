"""Tests of identity: who someone is and what they may do."""
