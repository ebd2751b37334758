"""The first schema: instruments, accounts, assets, orders, their events, trades, balances, postings, klines, the writer's position."""

from alembic import op

revision = "0001"
down_revision = None

_TABLES = """
CREATE TABLE writer (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    journal_id text NOT NULL,
    last_seq bigint NOT NULL,
    last_ts_ns bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE writer IS 'Which journal is in here, and up to which command; changes in the transaction that writes the rows';

CREATE TABLE assets (
    asset integer PRIMARY KEY,
    symbol text NOT NULL,
    scale smallint NOT NULL,
    fee_units bigint NOT NULL,
    net_deposits_units bigint NOT NULL,
    updated_seq bigint NOT NULL
);
COMMENT ON COLUMN assets.scale IS 'decimals of one unit';
COMMENT ON COLUMN assets.fee_units IS 'balance of the system account FEE';
COMMENT ON COLUMN assets.net_deposits_units IS 'minus the balance of the system account EXTERNAL';

CREATE TABLE instruments (
    instrument integer PRIMARY KEY,
    symbol text NOT NULL,
    state smallint NOT NULL,
    base integer NOT NULL,
    quote integer NOT NULL,
    tick_e8 bigint NOT NULL,
    lot_atoms bigint NOT NULL,
    multiplier bigint NOT NULL,
    maker_rate_e8 bigint NOT NULL,
    taker_rate_e8 bigint NOT NULL,
    band_up_e8 bigint NOT NULL,
    band_down_e8 bigint NOT NULL,
    breaker_e8 bigint NOT NULL,
    updated_seq bigint NOT NULL
);
COMMENT ON COLUMN instruments.multiplier IS 'ticks x lots x multiplier = units of the quote asset';

CREATE TABLE accounts (
    account integer PRIMARY KEY,
    state smallint NOT NULL,
    updated_seq bigint NOT NULL
);

CREATE TABLE balances (
    account integer NOT NULL,
    asset integer NOT NULL,
    free_units bigint NOT NULL CHECK (free_units >= 0),
    locked_units bigint NOT NULL CHECK (locked_units >= 0),
    updated_seq bigint NOT NULL,
    PRIMARY KEY (account, asset)
) WITH (fillfactor = 50);

CREATE TABLE orders (
    order_id bigint NOT NULL,
    seq bigint NOT NULL,
    ts_ns bigint NOT NULL,
    account integer NOT NULL,
    instrument integer NOT NULL,
    side smallint NOT NULL,
    type smallint NOT NULL,
    tif smallint NOT NULL,
    stp smallint NOT NULL,
    state smallint NOT NULL,
    reason smallint NOT NULL,
    source smallint NOT NULL,
    price_ticks bigint NOT NULL,
    qty_lots bigint NOT NULL,
    cum_qty_lots bigint NOT NULL,
    leaves_qty_lots bigint NOT NULL,
    value_units bigint NOT NULL,
    locked_units bigint NOT NULL,
    updated_seq bigint NOT NULL,
    updated_ts_ns bigint NOT NULL,
    link_id bigint NOT NULL,
    tag bigint NOT NULL,
    client_order_id text,
    PRIMARY KEY (order_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE orders IS 'Every order as it is now; seq and ts_ns are those of its entry';
COMMENT ON COLUMN orders.leaves_qty_lots IS 'lots still in the book; units for a market order by amount; 0 when it has ended';
CREATE INDEX orders_account ON orders (account, ts_ns, seq);
CREATE INDEX orders_account_instrument ON orders (account, instrument, ts_ns, seq);
CREATE INDEX orders_live ON orders (account, ts_ns, seq) WHERE state = 1;

CREATE TABLE order_events (
    seq bigint NOT NULL,
    idx integer NOT NULL,
    ts_ns bigint NOT NULL,
    order_id bigint NOT NULL,
    account integer NOT NULL,
    instrument integer NOT NULL,
    kind smallint NOT NULL,
    command smallint NOT NULL,
    side smallint NOT NULL,
    liquidity smallint NOT NULL,
    reason smallint NOT NULL,
    fee_asset smallint NOT NULL,
    price_ticks bigint NOT NULL,
    qty_lots bigint NOT NULL,
    cum_qty_lots bigint NOT NULL,
    leaves_qty_lots bigint NOT NULL,
    value_units bigint NOT NULL,
    fee_units bigint NOT NULL,
    contra_order_id bigint NOT NULL,
    PRIMARY KEY (seq, idx, ts_ns)
) PARTITION BY RANGE (ts_ns);
COMMENT ON TABLE order_events IS 'Every outcome of a command that concerns an order, under the number that gateways send too';
COMMENT ON COLUMN order_events.liquidity IS 'of a trade: 1 maker, 2 taker';
CREATE INDEX order_events_order ON order_events (order_id, seq, idx);

CREATE TABLE trades (
    seq bigint NOT NULL,
    idx integer NOT NULL,
    ts_ns bigint NOT NULL,
    instrument integer NOT NULL,
    taker_side smallint NOT NULL,
    price_ticks bigint NOT NULL,
    qty_lots bigint NOT NULL,
    value_units bigint NOT NULL,
    taker_order_id bigint NOT NULL,
    maker_order_id bigint NOT NULL,
    taker_account integer NOT NULL,
    maker_account integer NOT NULL,
    taker_fee_units bigint NOT NULL,
    maker_fee_units bigint NOT NULL,
    taker_fee_asset integer NOT NULL,
    maker_fee_asset integer NOT NULL,
    PRIMARY KEY (seq, idx, ts_ns)
) PARTITION BY RANGE (ts_ns);
COMMENT ON TABLE trades IS 'Every trade once, under the number of the taker''s outcome; the maker''s is the next index';
CREATE INDEX trades_instrument ON trades (instrument, ts_ns, seq, idx);
CREATE INDEX trades_taker ON trades (taker_account, ts_ns, seq, idx);
CREATE INDEX trades_maker ON trades (maker_account, ts_ns, seq, idx);

CREATE TABLE postings (
    seq bigint NOT NULL,
    idx integer NOT NULL,
    line smallint NOT NULL,
    movement smallint NOT NULL,
    ts_ns bigint NOT NULL,
    account integer NOT NULL,
    asset integer NOT NULL,
    bucket smallint NOT NULL,
    amount_units bigint NOT NULL,
    balance_units bigint NOT NULL,
    order_id bigint NOT NULL,
    PRIMARY KEY (seq, idx, line, ts_ns)
) PARTITION BY RANGE (ts_ns);
COMMENT ON TABLE postings IS 'Double entry: the amounts of a (seq, idx) add up to zero in each asset';
COMMENT ON COLUMN postings.account IS '0 = the system account that the bucket names';
COMMENT ON COLUMN postings.bucket IS '1 free, 2 locked, 3 FEE, 4 EXTERNAL';
COMMENT ON COLUMN postings.balance_units IS 'of the bucket after this line';
CREATE INDEX postings_account ON postings (account, asset, bucket, ts_ns, seq, idx, line);

CREATE TABLE klines (
    instrument integer NOT NULL,
    interval_s integer NOT NULL,
    open_ts_ns bigint NOT NULL,
    open_ticks bigint NOT NULL,
    high_ticks bigint NOT NULL,
    low_ticks bigint NOT NULL,
    close_ticks bigint NOT NULL,
    volume_lots numeric(38, 0) NOT NULL,
    turnover_units numeric(38, 0) NOT NULL,
    trades bigint NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    PRIMARY KEY (instrument, interval_s, open_ts_ns)
) WITH (fillfactor = 70);
COMMENT ON TABLE klines IS 'Intervals without a trade have no row; sums over many trades may pass 64 bits';
"""

_VIEWS = """
CREATE FUNCTION as_time(ns bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN timestamptz 'epoch' + (ns / 1000) * interval '1 microsecond';

CREATE FUNCTION as_amount(units numeric, scale integer) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN round(units * 10::numeric ^ (-scale), scale);

CREATE FUNCTION as_price(ticks bigint, tick_e8 bigint) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN trim_scale(ticks::numeric * tick_e8 * 0.00000001);

CREATE FUNCTION as_qty(lots numeric, lot_atoms bigint, scale integer) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN trim_scale(lots * lot_atoms * 10::numeric ^ (-scale));

CREATE VIEW balance_list AS
SELECT b.account, a.symbol AS asset, as_amount(b.free_units, a.scale) AS free, as_amount(b.locked_units, a.scale) AS locked,
    b.updated_seq
FROM balances b JOIN assets a USING (asset);

CREATE VIEW order_list AS
SELECT o.order_id, o.seq, as_time(o.ts_ns) AS entered, o.account, i.symbol,
    (ARRAY['BUY', 'SELL'])[o.side + 1] AS side,
    (ARRAY['LIMIT', 'MARKET', 'MARKET_AMOUNT'])[o.type] AS type,
    (ARRAY['GTC', 'IOC', 'FOK', 'POST_ONLY'])[o.tif + 1] AS tif,
    (ARRAY['LIVE', 'FILLED', 'EXPIRED', 'CANCELED', 'REJECTED'])[o.state] AS state, o.reason,
    as_price(nullif(o.price_ticks, 0), i.tick_e8) AS price,
    CASE WHEN o.type < 3 THEN as_qty(o.qty_lots, i.lot_atoms, b.scale) END AS qty,
    CASE WHEN o.type = 3 THEN as_amount(o.qty_lots, q.scale) END AS amount,
    as_qty(o.cum_qty_lots, i.lot_atoms, b.scale) AS filled_qty, as_amount(o.value_units, q.scale) AS filled_value,
    o.client_order_id, as_time(o.updated_ts_ns) AS updated
FROM orders o
LEFT JOIN instruments i USING (instrument) LEFT JOIN assets b ON b.asset = i.base LEFT JOIN assets q ON q.asset = i.quote;

CREATE VIEW trade_list AS
SELECT t.seq, t.idx, as_time(t.ts_ns) AS at, i.symbol, (ARRAY['BUY', 'SELL'])[t.taker_side + 1] AS taker_side,
    as_price(t.price_ticks, i.tick_e8) AS price, as_qty(t.qty_lots, i.lot_atoms, b.scale) AS qty,
    as_amount(t.value_units, q.scale) AS value,
    t.taker_account, t.taker_order_id, as_amount(t.taker_fee_units, tf.scale) AS taker_fee, tf.symbol AS taker_fee_asset,
    t.maker_account, t.maker_order_id, as_amount(t.maker_fee_units, mf.scale) AS maker_fee, mf.symbol AS maker_fee_asset
FROM trades t
JOIN instruments i USING (instrument) JOIN assets b ON b.asset = i.base JOIN assets q ON q.asset = i.quote
LEFT JOIN assets tf ON tf.asset = t.taker_fee_asset LEFT JOIN assets mf ON mf.asset = t.maker_fee_asset;

CREATE VIEW posting_list AS
SELECT p.seq, p.idx, p.line, as_time(p.ts_ns) AS at, p.account, a.symbol AS asset,
    (ARRAY['free', 'locked', 'FEE', 'EXTERNAL'])[p.bucket] AS bucket,
    (ARRAY['hold', 'trade', 'fee', 'release', 'amend', 'deposit', 'withdraw_hold', 'withdraw_settle', 'withdraw_release',
        'adjust'])[p.movement] AS movement,
    as_amount(p.amount_units, a.scale) AS amount, as_amount(p.balance_units, a.scale) AS balance, p.order_id
FROM postings p JOIN assets a USING (asset);

CREATE VIEW kline_list AS
SELECT i.symbol, k.interval_s, as_time(k.open_ts_ns) AS opened, as_price(k.open_ticks, i.tick_e8) AS open,
    as_price(k.high_ticks, i.tick_e8) AS high, as_price(k.low_ticks, i.tick_e8) AS low,
    as_price(k.close_ticks, i.tick_e8) AS close, as_qty(k.volume_lots, i.lot_atoms, b.scale) AS volume,
    as_amount(k.turnover_units, q.scale) AS turnover, k.trades, k.first_seq, k.last_seq
FROM klines k
JOIN instruments i USING (instrument) JOIN assets b ON b.asset = i.base JOIN assets q ON q.asset = i.quote;
"""


def upgrade() -> None:
    """Make everything."""
    for statement in f"{_TABLES}{_VIEWS}".split(";\n"):
        if statement.strip():
            op.execute(statement)
