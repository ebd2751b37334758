from pathlib import Path

import pytest

from cambist.config import ConfigError, Override, load
from protocol import enums
from protocol.instance import Engine


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cambist.toml"
    path.write_text(text)
    return path


def test_no_file_gives_the_defaults_of_the_engine(tmp_path: Path) -> None:
    assert Engine() == load(tmp_path / "cambist.toml", {}, required=False).engine_settings()


@pytest.mark.parametrize(
    ("text", "key", "value", "rule"),
    [
        ("[engine]\nshards = 0", "engine.shards", "0", ">= 1"),
        ("[engine]\nshards = 15", "engine.shards", "15", "<= 14"),
        ("[engine]\nshards = 'two'", "engine.shards", "'two'", "Expected int"),
        ("[engine]\ntopology = 'merged'", "engine.topology", "'merged'", "must be one of fused, split"),
        ("[engine]\nshard = 3", "engine.shard", "3", "did you mean shards?"),
        ("[engine]\nproducers = ['fix']", "engine.producers[0]", "['fix']", "must be one of bots, replay"),
        ("[limits]\nprofile = 'loose'", "limits.profile", "'loose'", "must be one of relaxed, standard"),
        ("[ring]\ncommand = 3", "ring", "{'command': 3}", "did you mean rings?"),
        ("[tables]\naccounts = -1", "tables.accounts", "-1", ">= 1"),
        ("[tables]\nclient_ids = 0", "tables.client_ids", "0", ">= 1"),
        ("[tables]\nclient_id_ttl_ms = -1", "tables.client_id_ttl_ms", "-1", ">= 0"),
        ("[tables]\nclient_id_ttl_ms = 604800001", "tables.client_id_ttl_ms", "604800001", "<= 604800000"),
        ("engine = 7", "engine", "7", "Expected object"),
        ("[rings]\ncommand = 1000", "rings.command", "1000", "power of two"),
        ("[rings]\nwindow = 65536", "rings.command", "65536", "rings.window"),
        ("[tables]\noutbox = 3", "tables.outbox", "", "tables.instruments"),
        ("[gateway]\nreserved_percent = 0", "gateway.reserved_percent", "0", ">= 1"),
        ("[gateway]\nreserved_percent = 100", "gateway.reserved_percent", "100", "<= 90"),
        ("[gateway]\nqueue_target_ms = '5 ms'", "gateway.queue_target_ms", "'5 ms'", "Expected int"),
        ("[gateway]\nqueue_target = 5", "gateway.queue_target", "5", "did you mean queue_target_ms?"),
        ("[test]\nmatcher_delay_us = -1", "test.matcher_delay_us", "-1", ">= 0"),
        ("[test]\nmatcher_delay_us = 5\n[engine]\ntopology = 'fused'", "test.matcher_delay_us", "5", "engine.topology"),
        ("[rate_limits]\nrows = 1000", "rate_limits", "1000", "a power of two"),
        ("[rate_limits]\nip_weight = [{window_s = 60, limit = 0}]", "rate_limits.ip_weight[0].limit", "", ">= 1"),
        ("[rate_limits]\nip_weight = [{window_s = 7, limit = 1}]", "rate_limits", "7", "does not divide a day"),
        (
            "[rate_limits]\nkey_weight = [{window_s = 60, limit = 1}, {window_s = 60, limit = 2}]",
            "rate_limits",
            "",
            "one window_s",
        ),
        ("[rate_limits]\nban_first_s = 10\nban_max_s = 9", "rate_limits", "10", "must not be above"),
        ("[control]\nenabled = 1", "control.enabled", "1", "Expected bool"),
    ],
)
def test_wrong_value_is_refused_with_file_key_value_and_rule(
    tmp_path: Path, text: str, key: str, value: str, rule: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        load(path, {}, required=True)
    message = str(refused.value)
    assert message.startswith(f"{path}: {key}")
    assert value in message
    assert rule in message


def test_text_that_is_no_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "[engine\n")
    with pytest.raises(ConfigError, match=r"not a TOML file: .*line 1"):
        load(path, {}, required=True)


def test_missing_file_is_an_error_only_where_it_was_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "other.toml", {}, required=True)


def test_option_goes_before_the_file_and_is_named_when_it_is_wrong(tmp_path: Path) -> None:
    path = written(tmp_path, "[engine]\nshards = 2\n[replay]\nlimit = 9")
    config = load(path, {"engine.shards": Override(3, "--shards")}, required=True)
    assert (3, 9) == (config.engine.shards, config.replay.limit)
    with pytest.raises(ConfigError, match=r"^option --shards: engine\.shards = 99: Expected int <= 14$"):
        load(path, {"engine.shards": Override(99, "--shards")}, required=True)
    with pytest.raises(ConfigError, match=r"^option --set rings\.event: rings\.event = 3: "):
        load(path, {"rings.event": Override(3, "--set rings.event")}, required=True)


def test_demo_adds_the_source_of_its_bots_and_relaxes_the_limits(tmp_path: Path) -> None:
    config = load(written(tmp_path, "[up]\ndemo = true"), {}, required=True)
    assert (enums.SOURCE_RISK, enums.SOURCE_CONTROL, enums.SOURCE_BOTS) == config.engine_settings().sources
    assert config.profile == "relaxed"
    strict = load(written(tmp_path, "[up]\ndemo = true\n[limits]\nprofile = 'standard'"), {}, required=True)
    assert strict.profile == "standard"


def test_settings_of_sections_load_back_to_the_same_configuration(tmp_path: Path) -> None:
    path = written(tmp_path, "[engine]\nshards = 3\nclock = 'virtual'\nproducers = ['replay']\n[rings]\nevent = 64")
    config = load(path, {}, required=True)
    overrides = {key: Override(value, key) for key, value in config.settings("engine", "rings", "replay").items()}
    assert config == load(tmp_path / "none.toml", overrides, required=False)


@pytest.mark.parametrize(
    ("text", "key", "rule"),
    [
        ('[control]\nlisten = "0.0.0.0:7443"', "control.listen = '0.0.0.0:7443'", "plain_text = true"),
        ('[control]\nlisten = "7443"', "control.listen = '7443'", "no address and port"),
        ('[control]\nlisten = "127.0.0.1:1"\n[control.tls]\nkey = "k"', "control.tls.key = 'k'", "tls.certificate"),
        ('[control.tls]\nclient_ca = "ca"', "control.tls.client_ca = 'ca'", "over TLS only"),
        ('[control.tls]\ncertificat = "c"', "control.tls.certificat = 'c'", "did you mean certificate?"),
        ("[control.tls]\ncertificate = 3", "control.tls.certificate = 3", "Expected `str`".replace("`", "")),
        ("[control]\ntls = 3", "control.tls = 3", "Expected object"),
        ('[control]\nlisten = "127.0.0.1:1"\n[postgres]\nenabled = false', "control.listen = '127.0.0.1:1'", "sign in"),
    ],
)  # fmt: skip
def test_listening_that_may_not_be_is_refused_with_what_to_do(tmp_path: Path, text: str, key: str, rule: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        load(path, {}, required=True)
    assert str(refused.value).startswith(f"{path}: {key}")
    assert rule in str(refused.value)


def test_keys_of_sections_in_sections_are_set_from_the_command_line_beside_those_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, '[control]\nlisten = "127.0.0.1:1"\n[control.tls]\ncertificate = "c"')
    config = load(path, {"control.tls.key": Override("k", "--set control.tls.key")}, required=True)
    assert ("c", "k") == (config.control.tls.certificate, config.control.tls.key)
    again = {key: Override(value, key) for key, value in config.settings("control").items()}
    assert config == load(tmp_path / "none.toml", again, required=False)
