"""Who is known: users, firms, accounts, keys, sessions, passkeys, account states, proposals, and the history of all changes."""

from alembic import op

revision = "0003"
down_revision = "0002"

_SCHEMA = """
CREATE SCHEMA access;

CREATE TABLE access.event (
    event_id bigint PRIMARY KEY,
    ts_ns bigint NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    changes jsonb NOT NULL
);
COMMENT ON TABLE access.event IS 'Every change: who, why, when, and the rows before and after without secrets. Rows are only ever added';
CREATE FUNCTION access.refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION 'access.event is history: rows are only ever added'; END$$;
CREATE TRIGGER history BEFORE UPDATE OR DELETE OR TRUNCATE ON access.event EXECUTE FUNCTION access.refuse();
CREATE INDEX event_subject ON access.event (subject, event_id);

CREATE TABLE access.users (
    user_id bigint PRIMARY KEY,
    name text NOT NULL UNIQUE,
    kind text NOT NULL,
    firm_id bigint NOT NULL,
    roles text[] NOT NULL,
    password text NOT NULL,
    temporary boolean NOT NULL,
    totp bytea NOT NULL,
    totp_step bigint NOT NULL,
    recovery text[] NOT NULL,
    wrong_codes bigint NOT NULL,
    anti_phishing text NOT NULL,
    created_ns bigint NOT NULL,
    closed_ns bigint NOT NULL,
    version bigint NOT NULL
);
COMMENT ON COLUMN access.users.version IS 'event that last changed the row; in every table here';

CREATE TABLE access.firms (
    firm_id bigint PRIMARY KEY,
    name text NOT NULL UNIQUE,
    created_ns bigint NOT NULL,
    version bigint NOT NULL
);

CREATE TABLE access.accounts (
    account bigint PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES access.users,
    main bigint NOT NULL,
    label text NOT NULL,
    version bigint NOT NULL
);
COMMENT ON TABLE access.accounts IS 'Whose an account of the engine is; main is the number of the user''s main account';

CREATE TABLE access.keys (
    key_id text PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES access.users,
    kind text NOT NULL,
    label text NOT NULL,
    secret bytea NOT NULL,
    public_key bytea NOT NULL,
    permissions text[] NOT NULL,
    networks text[] NOT NULL,
    accounts bigint[] NOT NULL,
    comp_id text NOT NULL,
    created_ns bigint NOT NULL,
    expires_ns bigint NOT NULL,
    revoked_ns bigint NOT NULL,
    version bigint NOT NULL
);
COMMENT ON COLUMN access.keys.secret IS 'sealed with access.key of the home, which is not in the database';

CREATE TABLE access.sessions (
    session_id bigint PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES access.users,
    token_hash bytea NOT NULL UNIQUE,
    address text NOT NULL,
    device text NOT NULL,
    factor text NOT NULL,
    created_ns bigint NOT NULL,
    seen_ns bigint NOT NULL,
    idle_ns bigint NOT NULL,
    expires_ns bigint NOT NULL,
    revoked_ns bigint NOT NULL,
    version bigint NOT NULL
);
CREATE INDEX sessions_seen ON access.sessions (seen_ns);

CREATE TABLE access.passkeys (
    credential_id bytea PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES access.users,
    public_key bytea NOT NULL,
    sign_count bigint NOT NULL,
    label text NOT NULL,
    created_ns bigint NOT NULL,
    revoked_ns bigint NOT NULL,
    version bigint NOT NULL
);

CREATE TABLE access.restrictions (
    restriction_id bigint PRIMARY KEY,
    subject text NOT NULL,
    number bigint NOT NULL,
    scopes text[] NOT NULL,
    text text NOT NULL,
    created_ns bigint NOT NULL,
    expires_ns bigint NOT NULL,
    lifted_ns bigint NOT NULL,
    version bigint NOT NULL
);
COMMENT ON TABLE access.restrictions IS 'Account states: what a user, account or firm may not do, why and until when';

CREATE TABLE access.proposals (
    proposal_id bigint PRIMARY KEY,
    op text NOT NULL,
    args text NOT NULL,
    operator text NOT NULL,
    reason text NOT NULL,
    state text NOT NULL,
    decided_by text NOT NULL,
    result text NOT NULL,
    created_ns bigint NOT NULL,
    expires_ns bigint NOT NULL,
    decided_ns bigint NOT NULL,
    version bigint NOT NULL
);
"""
_TABLES = ("users", "firms", "accounts", "keys", "sessions", "passkeys", "restrictions", "proposals")


def upgrade() -> None:
    """Make the schema."""
    for statement in _SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)
    for table in _TABLES:
        op.execute(f"CREATE INDEX {table}_version ON access.{table} (version)")
