"""Risk by itself: every rule that it owns."""
