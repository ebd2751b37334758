"""PostgreSQL: an embedded server, the schema, the writer that follows the journal exactly once, and what gateways read from it."""
