"""The audit trail, its chain, its export and reconciliation."""
