import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cambist import __version__, cli
from cambist.home import Home
from cambist.launch import environment


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CAMBIST_HOME", raising=False)


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert f"cambist {__version__}\n" == capsys.readouterr().out


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_has_help_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"usage: cambist {command}" in text
    assert f"examples:\n  cambist {command}" in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["up", "--wings"], "unrecognized arguments: --wings"),
        (["up", "--shards", "many"], "argument --shards: invalid int value: 'many'"),
        (["up", "--shards", "99"], "option --shards: engine.shards = 99: Expected int <= 14"),
        (["up", "--set", "engine.shards"], "must be KEY=VALUE"),
        (["up", "--set", "engine.wings=2"], "option --set engine.wings: engine.wings = 2: unknown key"),
        (["up", "--config", "none.toml"], "none.toml: no such file"),
        (["replay"], "the following arguments are required: FILE_OR_FOLDER"),
        (["replay", "none.bin"], "none.bin: no such file or folder"),
        (["replay", ".", "--format", "csv"], "option --format: replay.format = 'csv': must be one of"),
        (["bench"], "the following arguments are required: NAME"),
    ],
)
def test_wrong_usage_is_status_2_with_the_reason_on_stderr(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert reason in printed.err
    assert not printed.out


def test_error_in_the_file_of_the_home_names_file_and_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cambist.toml").write_text("[engine]\nshards = 0\n")
    assert cli.main(["up", "--home", str(tmp_path)]) == 2
    assert f"cambist: {tmp_path}/cambist.toml: engine.shards = 0: Expected int >= 1\n" == capsys.readouterr().err


def test_down_where_nothing_runs_is_ok(tmp_path: Path) -> None:
    assert cli.main(["down", "--home", str(tmp_path / "nowhere")]) == 0


def test_status_where_nothing_runs_is_status_1_with_whole_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status", "--home", str(tmp_path), "--json"]) == 1
    state = json.loads(capsys.readouterr().out)
    assert (False, [], {}, []) == tuple(state[key] for key in ("running", "processes", "seqs", "instruments"))


def test_home_comes_from_option_then_environment_then_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def home_of(*arguments: str) -> str:
        cli.main(["status", "--json", *arguments])
        return str(json.loads(capsys.readouterr().out)["home"])

    (tmp_path / "other.toml").write_text(f'home = "{tmp_path}/configured"\n[status]\njson = true\n')
    assert f"{tmp_path}/var" == home_of()
    assert f"{tmp_path}/configured" == home_of("--config", "other.toml")
    monkeypatch.setenv("CAMBIST_HOME", f"{tmp_path}/environment")
    assert f"{tmp_path}/environment" == home_of("--config", "other.toml")
    assert f"{tmp_path}/option" == home_of("--home", f"{tmp_path}/option")


def test_option_can_come_from_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cambist.toml").write_text("[status]\njson = true\n")
    assert cli.main(["status", "--home", str(tmp_path)]) == 1
    assert json.loads(capsys.readouterr().out)["running"] is False


def test_client_commands_import_neither_numba_nor_numpy(tmp_path: Path) -> None:
    program = (
        "import sys; from cambist import cli; "
        f"home = ['--home', {os.fspath(tmp_path)!r}]; cli.main(['status', *home]); cli.main(['down', *home]); "
        "print(sorted({'numba', 'numpy', 'rich', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_up_in_a_held_home_is_status_1_and_names_the_holder(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    from cambist.home import HomeLock

    with HomeLock(home):
        assert cli.main(["up", "--home", str(home.path)]) == 1
    assert f"process {os.getpid()} (" in capsys.readouterr().err


@pytest.mark.parametrize(
    "setting",
    ["postgres.dsn=postgresql://desk:open-sesame@host/db", "postgres.dsn=postgresql:///db?password=open-sesame"],
)
def test_password_that_the_list_of_processes_would_show_is_refused(
    setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 == cli.main(["status", "--home", str(tmp_path), "--set", setting])
    said = capsys.readouterr().err
    assert "list of processes" in said
    assert "open-sesame" not in said


def test_what_a_command_writes_is_the_owners_alone_and_the_mask_of_its_caller_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    masks = []

    def run(_: list[str]) -> int:
        masks.append(os.umask(0o077))
        return 0

    monkeypatch.setattr(cli, "_run", run)
    former = os.umask(0o022)
    try:
        cli.main([])
        masks.append(os.umask(0o022))
    finally:
        os.umask(former)
    assert [0o077, 0o022] == masks
