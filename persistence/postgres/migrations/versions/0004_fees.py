"""Which rule priced a fill, revenue by type, fee schedules and who has them, limits, groups of accounts."""

from alembic import op

revision = "0004"
down_revision = "0003"

_SCHEMA = """
ALTER TABLE trades
    ADD COLUMN taker_fee_rule integer NOT NULL DEFAULT 0, ADD COLUMN maker_fee_rule integer NOT NULL DEFAULT 0,
    ADD COLUMN taker_fee_tier smallint NOT NULL DEFAULT 0, ADD COLUMN maker_fee_tier smallint NOT NULL DEFAULT 0,
    ADD COLUMN taker_fee_api smallint NOT NULL DEFAULT 0, ADD COLUMN maker_fee_api smallint NOT NULL DEFAULT 0;
COMMENT ON COLUMN trades.taker_fee_rule IS 'row of fee_versions; 0 = the instrument''s own rates';
COMMENT ON COLUMN trades.taker_fee_api IS '1 = with the API discount';

ALTER TABLE assets
    ADD COLUMN volume_rate_e8 bigint NOT NULL DEFAULT 0, ADD COLUMN taker_fee_units bigint NOT NULL DEFAULT 0,
    ADD COLUMN maker_fee_units bigint NOT NULL DEFAULT 0, ADD COLUMN rebate_units bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN assets.rebate_units IS 'taker fees + maker fees - rebates = FEE, less what was earned before types were known';

ALTER TABLE instruments ADD COLUMN follows_venue boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN instruments.follows_venue IS 'without a schedule of its own it has the venue''s, not its own rates';

ALTER TABLE accounts
    ADD COLUMN master integer NOT NULL DEFAULT 0, ADD COLUMN firm integer NOT NULL DEFAULT 0,
    ADD COLUMN stp_group integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN accounts.master IS 'main account whose volume and user limits count; 0 = itself';

CREATE TABLE revenue (
    day integer NOT NULL,
    instrument integer NOT NULL,
    asset integer NOT NULL,
    kind smallint NOT NULL,
    units numeric(38, 0) NOT NULL,
    fills bigint NOT NULL,
    PRIMARY KEY (day, instrument, asset, kind)
);
COMMENT ON TABLE revenue IS 'What fills brought, by UTC day (since 1970); kind 1 taker fees, 2 maker fees, 3 rebates (positive: paid)';
INSERT INTO revenue
SELECT ts_ns / 86400000000000, instrument, asset, kind, sum(units), count(*) FROM (
    SELECT ts_ns, instrument, taker_fee_asset AS asset, 1 AS kind, taker_fee_units AS units FROM trades WHERE taker_fee_units > 0
    UNION ALL
    SELECT ts_ns, instrument, maker_fee_asset, CASE WHEN maker_fee_units > 0 THEN 2 ELSE 3 END, abs(maker_fee_units)
    FROM trades WHERE maker_fee_units <> 0) AS sides
GROUP BY 1, 2, 3, 4;

CREATE TABLE fee_versions (
    rule integer PRIMARY KEY,
    schedule integer NOT NULL,
    version integer NOT NULL,
    effective_ts_ns bigint NOT NULL,
    api_discount_e8 bigint NOT NULL,
    seq bigint NOT NULL,
    ts_ns bigint NOT NULL
);
COMMENT ON TABLE fee_versions IS 'Every version of every fee schedule; rule is what fills name';

CREATE TABLE fee_tiers (
    rule integer NOT NULL REFERENCES fee_versions,
    tier smallint NOT NULL,
    min_volume_units bigint NOT NULL,
    maker_e8 bigint NOT NULL,
    taker_e8 bigint NOT NULL,
    PRIMARY KEY (rule, tier)
);

CREATE TABLE fee_assignments (
    scope smallint NOT NULL,
    account integer NOT NULL,
    instrument integer NOT NULL,
    firm integer NOT NULL,
    schedule integer NOT NULL,
    updated_seq bigint NOT NULL,
    PRIMARY KEY (scope, account, instrument, firm)
);
COMMENT ON TABLE fee_assignments IS 'Who has which schedule, 0 = none any more; scope 0 venue, 1 account, 3 firm, 4 instrument, 5 both';

CREATE TABLE limits (
    scope smallint NOT NULL,
    account integer NOT NULL,
    instrument integer NOT NULL,
    firm integer NOT NULL,
    qty_max_lots bigint NOT NULL,
    notional_max_units bigint NOT NULL,
    open_orders_max integer NOT NULL,
    orders_per_s integer NOT NULL,
    collar_e8 bigint NOT NULL,
    killed boolean NOT NULL,
    updated_seq bigint NOT NULL,
    PRIMARY KEY (scope, account, instrument, firm)
);
COMMENT ON TABLE limits IS 'Pre-trade limits, 0 = none; scope 0 venue, 1 account, 2 user (by main account), 3 firm, 4 instrument';

CREATE OR REPLACE VIEW trade_list AS
SELECT t.seq, t.idx, as_time(t.ts_ns) AS at, i.symbol, (ARRAY['BUY', 'SELL'])[t.taker_side + 1] AS taker_side,
    as_price(t.price_ticks, i.tick_e8) AS price, as_qty(t.qty_lots, i.lot_atoms, b.scale) AS qty,
    as_amount(t.value_units, q.scale) AS value,
    t.taker_account, t.taker_order_id, as_amount(t.taker_fee_units, tf.scale) AS taker_fee, tf.symbol AS taker_fee_asset,
    t.maker_account, t.maker_order_id, as_amount(t.maker_fee_units, mf.scale) AS maker_fee, mf.symbol AS maker_fee_asset,
    tv.schedule AS taker_schedule, tv.version AS taker_version, t.taker_fee_tier AS taker_tier, t.taker_fee_api = 1 AS taker_api,
    mv.schedule AS maker_schedule, mv.version AS maker_version, t.maker_fee_tier AS maker_tier, t.maker_fee_api = 1 AS maker_api
FROM trades t
JOIN instruments i USING (instrument) JOIN assets b ON b.asset = i.base JOIN assets q ON q.asset = i.quote
LEFT JOIN assets tf ON tf.asset = t.taker_fee_asset LEFT JOIN assets mf ON mf.asset = t.maker_fee_asset
LEFT JOIN fee_versions tv ON tv.rule = t.taker_fee_rule LEFT JOIN fee_versions mv ON mv.rule = t.maker_fee_rule;

CREATE OR REPLACE VIEW posting_list AS
SELECT p.seq, p.idx, p.line, as_time(p.ts_ns) AS at, p.account, a.symbol AS asset,
    (ARRAY['free', 'locked', 'FEE', 'EXTERNAL'])[p.bucket] AS bucket,
    (ARRAY['hold', 'trade', 'fee', 'release', 'amend', 'deposit', 'withdraw_hold', 'withdraw_settle', 'withdraw_release',
        'adjust', 'transfer', 'taker_fee', 'maker_fee', 'rebate'])[p.movement] AS movement,
    as_amount(p.amount_units, a.scale) AS amount, as_amount(p.balance_units, a.scale) AS balance, p.order_id
FROM postings p JOIN assets a USING (asset);

CREATE VIEW revenue_list AS
SELECT date '1970-01-01' + r.day AS day, i.symbol AS instrument, a.symbol AS asset,
    (ARRAY['taker_fee', 'maker_fee', 'rebate'])[r.kind] AS kind, as_amount(r.units, a.scale) AS amount, r.fills
FROM revenue r JOIN assets a USING (asset) LEFT JOIN instruments i USING (instrument);
"""


def upgrade() -> None:
    """Add what is new. Trades of before are those of versions that had no schedules: the instrument's own rates, rule 0."""
    for statement in _SCHEMA.split(";\n"):
        if statement.strip():
            op.execute(statement)
