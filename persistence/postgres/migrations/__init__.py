"""The schema as a chain of changes; ``persistence.postgres.schema`` runs them."""
