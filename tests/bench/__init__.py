"""Tests of the benches at smoke size: their form and their results, not their speed."""
