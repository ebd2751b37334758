"""Alembic's entry: runs the changes on the connection that ``schema.migrate`` gives it."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
