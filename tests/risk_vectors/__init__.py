"""Worked examples of the risk specification, run through the exchange's own kernels."""
