"""The embedded server of the database's tests."""

from tests.persistence.postgres.conftest import postgres

__all__ = ["postgres"]
