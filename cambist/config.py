"""The one configuration: a typed TOML file (``cambist.toml`` in the home, or ``--config``), overridden by options.

Every option of every command is a key of this file: ``cambist replay --shards 3`` sets ``engine.shards``, and
``cambist bench --runs 5`` sets ``bench.runs``. An error names the file or the option, the key, the value and the rule.
"""

from __future__ import annotations

import copy
import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from gateway.listening.settings import Listening, wrong
from gateway.rates.rules import RateLimits
from protocol import enums
from protocol.instance import Engine, Limits, Overload, Rings
from protocol.readers import SHARDS_MAX

FILE_NAME: Final = "cambist.toml"
CLIENT_ID_TTL_MAX_MS: Final = 7 * 24 * 3600 * 1000

Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Natural = Annotated[int, Meta(ge=0, le=2**63 - 1)]

_CLOCKS: Final = {"live": enums.CLOCK_LIVE, "virtual": enums.CLOCK_VIRTUAL, "verbatim": enums.CLOCK_VERBATIM}
_PRODUCERS: Final = {"replay": enums.SOURCE_REPLAY, "bots": enums.SOURCE_BOTS}
_AT: Final = re.compile(r" - at `(?:key in )?\$([^`]*)`")
_UNKNOWN: Final = re.compile(r"unknown field `([^`]*)`")


class ConfigError(Exception):
    """The configuration cannot be used; the message names the file or option, the key, the value and the rule."""


class EngineSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[engine]``: how the trading core runs."""

    topology: Literal["split", "fused"] = "split"
    shards: Annotated[int, Meta(ge=1, le=SHARDS_MAX)] = 1
    wait: Literal["adaptive", "yield", "spin"] = "adaptive"
    durability: Literal["sync", "async"] = "sync"
    segment_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 32, multiple_of=4096)] = 64 << 20
    checkpoint_interval_s: Positive = 10
    jitter: Natural = 0
    """Seed of forced delays at each stage; 0 = none."""
    clock: Literal["live", "virtual", "verbatim"] = "live"
    """Other than live: the times of the command are taken over. For replays only."""
    producers: tuple[Literal["replay", "bots"], ...] = ()
    """Producers outside the supervisor that get an ingress ring."""
    gating_outcome_reader: bool = False
    """The engine waits for the reader of a replay's outcomes. For replays only."""


class LimitsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[limits]``: what clients may do."""

    profile: Literal["relaxed", "standard"] | None = None
    """Without it, relaxed for the demo and standard otherwise."""


class TablesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[tables]``: what a home keeps, sizes of tables and pools above all; see ``protocol.instance.Limits``."""

    accounts: Positive = Limits().accounts
    assets: Positive = Limits().assets
    instruments: Positive = Limits().instruments
    orders: Positive = Limits().orders
    leaves: Positive = Limits().leaves
    withdrawal_holds: Positive = Limits().withdrawal_holds
    outbox: Positive = Limits().outbox
    timers: Positive = Limits().timers
    firms: Positive = Limits().firms
    fee_schedules: Positive = Limits().fee_schedules
    fee_versions: Annotated[int, Meta(ge=1, le=65_535)] = Limits().fee_versions
    fee_contracts: Positive = Limits().fee_contracts
    client_ids: Positive = Limits().client_ids
    client_id_ttl_ms: Annotated[int, Meta(ge=0, le=CLIENT_ID_TTL_MAX_MS)] = Limits().client_id_ttl_ms


class RingsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[rings]``: capacities in slots, powers of two; see ``protocol.instance.Rings``."""

    ingress: Positive = Rings().ingress
    command: Positive = Rings().command
    event: Positive = Rings().event
    outcome: Positive = Rings().outcome
    window: Positive = Rings().window


class GatewaySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[gateway]``: what holds for every gateway; see ``gateway.admission``."""

    reserved_percent: Annotated[int, Meta(ge=1, le=90)] = Overload().reserved_percent
    """Share of each ingress ring and gateway table for cancels, exits and protective commands."""
    queue_target_ms: Annotated[int, Meta(ge=1, le=60_000)] = Overload().queue_target_ms
    """New orders are refused while the queue before them means more than this."""


class ControlSection(Listening, frozen=True, forbid_unknown_fields=True):
    """``[control]``: the operators' gateway; on TCP too where ``listen`` says so, for operators who have signed in."""

    enabled: bool = True
    socket: str = ""
    """Path of the Unix socket; empty: ``<home>/run/control.sock``."""
    owner_acts: bool = True
    """The home's owner acts without signing in; false: only until operators are registered who can do everything between them."""

    @property
    def listening(self) -> Listening:
        """Where and how it listens on TCP."""
        return Listening(self.listen, self.tls, self.plain_text)


class ReplicaSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[replica]``: the process that follows the journal and verifies the live engine."""

    enabled: bool = True
    on_divergence: Literal["alarm", "stop"] = "alarm"
    """What a difference from the live engine does: an alarm, or also no more acknowledgements until an operator acts."""


class SnapshotsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[snapshots]``: the whole state, written by the replica beside trading, with which recovery begins."""

    interval_s: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 60
    """Sequenced time from one to the next; 0 = only when asked for. Written at the next checkpoint."""
    keep: Annotated[int, Meta(ge=1, le=1000)] = 3
    """Generations kept, beside those that a consumer of the journal still needs."""
    bytes_per_s: Natural = 64 << 20
    """How fast one is written at most; 0 = as fast as the disk takes it."""
    map_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 46)] = 64 << 30
    """Largest size of one; a state that needs more is an alarm."""


class SnapshotSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[snapshot]``: options of ``cambist snapshot``."""

    json: bool = False


class PostgresSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[postgres]``: the database that the writer fills from the journal."""

    enabled: bool = True
    dsn: str = ""
    """Of a server of your own; empty: an embedded one in ``<home>/postgres``."""


class DemoSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[demo]``: the bots of ``up --demo``."""

    seed: Natural = 1
    orders_per_s: Positive = 300


class UpSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[up]``: options of ``cambist up``."""

    demo: bool = False
    detach: bool = False


class DownSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[down]``: options of ``cambist down``."""

    timeout_s: Positive = 30
    kill: bool = False


class StatusSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[status]``: options of ``cambist status``."""

    json: bool = False
    sample_ms: Annotated[int, Meta(ge=0, le=60_000)] = 250


class VerifySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[verify]``: options of ``cambist verify``."""

    json: bool = False


class ArchiveSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[archive]``: when old journal segments are compressed, and where they go."""

    after_segments: Annotated[int, Meta(ge=-1, le=2**31 - 1)] = 4
    """So many closed segments stay as they are, beside those that are needed still; -1: none is ever compressed."""
    folder: str = ""
    """Where compressed segments lie; empty: in the journal."""


class BackupSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[backup]``: options of ``cambist backup`` and ``cambist restore``."""

    json: bool = False


class UpgradeSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[upgrade]``: options of ``cambist upgrade``."""

    json: bool = False


class InspectSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[inspect]``: options of ``cambist inspect``."""

    at: str = ""
    """A seq or a time; empty: the durable end."""
    depth: Positive | None = None
    """Levels of a side; without it, all."""
    orders: bool = False
    json: bool = False


class JournalSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[journal]``: options of ``cambist journal``."""

    limit: Positive | None = None
    """Commands to show at most; without it, all."""
    json: bool = False


class ReplaySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[replay]``: options of ``cambist replay``."""

    format: Literal["lobster", "bitstamp", "coinbase", "xflow", "cambist", "auto"] = "auto"
    limit: Natural | None = None
    """Messages to take at most; without it, all."""
    until: Natural | None = None
    """Seq of a journal, or of a recording's messages, behind which the replay stops."""
    json: bool = False
    fills: str = ""
    keep: bool = False
    """Keep the temporary home."""


class TourSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[tour]``: options of ``cambist demo tour``."""

    orders_per_s: Positive = 1000
    """Of the tour's own client, beside those of the bots."""
    load_s: Positive = 6
    """How long it trades before the kill, and again after the recovery."""
    json: bool = False


class BenchSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[bench]``: options of ``cambist bench``."""

    flow: str = ""
    peers: tuple[str, ...] = ()
    """Programs of other books that ``matcher`` is compared with."""
    runs: Annotated[int, Meta(ge=1, le=1000)] = 5
    json: str = ""
    html: str = ""


class TestSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[test]``: makes the exchange worse on purpose."""

    matcher_delay_us: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Microseconds that a matcher takes for a slot; 0 = as fast as it can."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of the configuration; see the sections."""

    home: str = ""
    """Folder of the instance; ``--home`` and ``CAMBIST_HOME`` go before it. Only of use in a file given by --config."""
    engine: EngineSection = EngineSection()
    limits: LimitsSection = LimitsSection()
    tables: TablesSection = TablesSection()
    rings: RingsSection = RingsSection()
    gateway: GatewaySection = GatewaySection()
    rate_limits: RateLimits = RateLimits()
    control: ControlSection = ControlSection()
    replica: ReplicaSection = ReplicaSection()
    snapshots: SnapshotsSection = SnapshotsSection()
    postgres: PostgresSection = PostgresSection()
    snapshot: SnapshotSection = SnapshotSection()
    demo: DemoSection = DemoSection()
    up: UpSection = UpSection()
    down: DownSection = DownSection()
    status: StatusSection = StatusSection()
    verify: VerifySection = VerifySection()
    archive: ArchiveSection = ArchiveSection()
    backup: BackupSection = BackupSection()
    upgrade: UpgradeSection = UpgradeSection()
    inspect: InspectSection = InspectSection()
    journal: JournalSection = JournalSection()
    replay: ReplaySection = ReplaySection()
    tour: TourSection = TourSection()
    bench: BenchSection = BenchSection()
    test: TestSection = TestSection()

    @property
    def profile(self) -> str:
        """The limits profile in force."""
        return self.limits.profile or ("relaxed" if self.up.demo else "standard")

    def engine_settings(self) -> Engine:
        """What the engine's processes are configured by; ConfigError if the settings do not fit together."""
        if self.test.matcher_delay_us and self.engine.topology != "split":
            raise ConfigError(
                f"test.matcher_delay_us = {self.test.matcher_delay_us}: needs engine.topology = 'split', "
                f"only there is a matcher a process of its own"
            )
        producers = {_PRODUCERS[name] for name in self.engine.producers}
        if self.up.demo:
            producers.add(enums.SOURCE_BOTS)
        if self.control.enabled:
            producers.add(enums.SOURCE_CONTROL)
        engine = Engine(
            topology=self.engine.topology,
            shards=self.engine.shards,
            wait=self.engine.wait,
            durability=self.engine.durability,
            clock=_CLOCKS[self.engine.clock],
            segment_bytes=self.engine.segment_bytes,
            limits=Limits(**msgspec.structs.asdict(self.tables)),
            rings=Rings(**msgspec.structs.asdict(self.rings)),
            overload=Overload(**msgspec.structs.asdict(self.gateway)),
            checkpoint_interval_s=self.engine.checkpoint_interval_s,
            sources=(enums.SOURCE_RISK, *sorted(producers)),
            gating_outcome_reader=self.engine.gating_outcome_reader,
        )
        try:
            engine.check()
        except ValueError as error:
            # The engine calls its tables limits; in the file [limits] is what clients may do.
            raise ConfigError(str(error).replace("limits.", "tables.")) from error
        return engine

    def check_listening(self) -> None:
        """Whether every gateway listens as it may; ConfigError if not. Files are not looked at."""
        for section in msgspec.structs.fields(self):
            settings = getattr(self, section.name)
            found = wrong(settings) if isinstance(settings, Listening) else None
            if found is not None:
                key, sentence = found
                value: Any = settings
                for name in key.split("."):
                    value = getattr(value, name)
                raise ConfigError(f"{section.name}.{key} = {value!r}: {sentence}")
        if self.control.enabled and self.control.listen and not self.postgres.enabled:
            raise ConfigError(
                f"control.listen = {self.control.listen!r}: operators sign in there, and with postgres.enabled = false there "
                f"are none; take it away, or enable the database"
            )

    def settings(self, *sections: str) -> dict[str, Any]:
        """Everything in ``sections`` by dotted key, as ``cambist.launch.running`` takes it, without what is not set."""
        return {
            f"{section}.{name}": value
            for section in sections
            for name, value in _flat(getattr(self, section))
            if value is not None
        }


def _flat(section: msgspec.Struct) -> Iterator[tuple[str, Any]]:
    """Names and values of a section, those of sections in it with dotted names."""
    for name, value in msgspec.structs.asdict(section).items():
        if isinstance(value, msgspec.Struct):
            yield from ((f"{name}.{inner}", found) for inner, found in _flat(value))
        else:
            yield name, value


class Override(NamedTuple):
    """A value from the command line and the option that gave it."""

    value: object
    option: str


def load(path: Path, overrides: Mapping[str, Override], *, required: bool) -> Config:
    """Read ``path`` and lay ``overrides`` ("engine.shards" -> value) on top.

    Parameters
    ----------
    path : Path
        The TOML file.
    overrides : mapping of str to Override
        By dotted key.
    required : bool
        Whether a missing file is an error; otherwise all is default.

    Raises
    ------
    ConfigError
        The file cannot be read, is no TOML, or a key breaks its rule.
    """
    document = _read(path, required=required)
    merged = copy.deepcopy(document)
    for key, override in overrides.items():
        *sections, name = key.split(".")
        table: Any = merged
        for section in sections:
            table = table.setdefault(section, {}) if isinstance(table, dict) else table
        if isinstance(table, dict):  # otherwise the file is wrong there, and the conversion says so
            table[name] = override.value
    try:
        config = msgspec.convert(merged, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(_explained(str(error), path, merged, overrides)) from None
    try:
        config.engine_settings()
        config.check_listening()
    except ConfigError as error:
        given = [override.option for key, override in overrides.items() if key in str(error)]
        raise ConfigError(f"{f'option {given[0]}' if given else path}: {error}") from None
    return config


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: no such file; --config names the TOML configuration to use") from None
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None


def _explained(message: str, path: Path, document: Mapping[str, Any], overrides: Mapping[str, Override]) -> str:
    """Say where, which key, which value and which rule; ``message`` is what msgspec found."""
    at = _AT.search(message)
    key = (at.group(1) if at else "").lstrip(".")
    rule = _AT.sub("", message).replace("`", "")
    unknown = _UNKNOWN.search(message)
    if unknown:
        parent, key = key, f"{key}.{unknown.group(1)}".lstrip(".")
        rule = _unknown_key_rule(parent, unknown.group(1))
    elif "Invalid enum value" in message:
        rule = f"must be one of {', '.join(_choices(key))}"
    plain = re.sub(r"\[[^\]]*\]", "", key)
    override = overrides.get(plain)
    where = f"option {override.option}" if override else str(path)
    return f"{where}: {key or 'the file'} = {_value(document, plain)}: {rule}"


def _value(document: Mapping[str, Any], key: str) -> str:
    value: Any = document
    for name in key.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return "?"
        value = value[name]
    return repr(value)


def _fields(key: str) -> tuple[msgspec.inspect.Field, ...]:
    """Fields of the section ``key``; of the whole configuration for an empty key."""
    info: msgspec.inspect.Type = msgspec.inspect.type_info(Config)
    for name in filter(None, key.split(".")):
        assert isinstance(info, msgspec.inspect.StructType)
        found = [field.type for field in info.fields if field.name == name]
        if not found or not isinstance(found[0], msgspec.inspect.StructType):
            return ()
        info = found[0]
    assert isinstance(info, msgspec.inspect.StructType)
    return info.fields


def _unknown_key_rule(section: str, name: str) -> str:
    known = [field.encode_name for field in _fields(section)]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    place = f"[{section}]" if section else "the file"
    return f"unknown key{hint} {place} knows {', '.join(known)}"


def _choices(key: str) -> list[str]:
    section, _, name = re.sub(r"\[[^\]]*\]", "", key).rpartition(".")
    return [value for field in _fields(section) if field.name == name for value in _literals(field.type)]


def _literals(kind: msgspec.inspect.Type) -> list[str]:
    """Values that a Literal allows, within a tuple or beside None too."""
    if isinstance(kind, msgspec.inspect.VarTupleType):
        return _literals(kind.item_type)
    if isinstance(kind, msgspec.inspect.UnionType):
        return [value for part in kind.types for value in _literals(part)]
    return [str(value) for value in kind.values] if isinstance(kind, msgspec.inspect.LiteralType) else []
