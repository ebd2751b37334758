"""What a pair must be, and what becomes of one that changes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from gateway.listening.certificates import Certificates
from gateway.listening.settings import Tls
from tests.listening.authority import Authority

DAY_S = 86_400


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


def looked(certificate: Path, key: Path, client_ca: Path | str = "", days: float = 0) -> Certificates:
    certificates = Certificates(
        Tls(str(certificate), str(key), str(client_ca)), Path("/"), now_s=lambda: time.time() + days * DAY_S
    )
    certificates.look()
    return certificates


def _locked(authority: Authority, certificate: Path, key: Path) -> str:
    content = serialization.load_pem_private_key(key.read_bytes(), None)
    pkcs8, passphrase = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"open sesame")
    key.write_bytes(content.private_bytes(serialization.Encoding.PEM, pkcs8, passphrase))
    return f"{key}: the key has a passphrase"


def _of_another(authority: Authority, certificate: Path, key: Path) -> str:
    authority.sign("other")[1].replace(key)
    return f"{key}: is not the key of {certificate}"


def _open_to_others(authority: Authority, certificate: Path, key: Path) -> str:
    key.chmod(0o640)
    return f"{key}: has mode 0640, and a private key is for its owner alone: chmod 600"


def _expired(authority: Authority, certificate: Path, key: Path) -> str:
    authority.sign("server", begins_days=-10, ends_days=-1)
    return f"{certificate}: expired at "


def _of_tomorrow(authority: Authority, certificate: Path, key: Path) -> str:
    authority.sign("server", begins_days=1)
    return f"{certificate}: is good from "


def _gone(authority: Authority, certificate: Path, key: Path) -> str:
    certificate.unlink()
    return f"{certificate}: cannot be read: No such file"


def _folder(authority: Authority, certificate: Path, key: Path) -> str:
    key.unlink()
    key.mkdir(mode=0o700)
    return f"{key}: "


def _pipe(authority: Authority, certificate: Path, key: Path) -> str:
    key.unlink()
    os.mkfifo(key, 0o600)
    return f"{key}: is no file"


def _rubbish(authority: Authority, certificate: Path, key: Path) -> str:
    certificate.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    return f"{certificate}: holds no certificate in PEM"


def _half(authority: Authority, certificate: Path, key: Path) -> str:
    key.write_bytes(key.read_bytes()[:100])
    return f"{key}: holds no private key in PEM"


def _huge(authority: Authority, certificate: Path, key: Path) -> str:
    certificate.write_bytes(certificate.read_bytes() + b"\n" * (1 << 20))
    return f"{certificate}: has more than"


BROKEN = [_locked, _of_another, _open_to_others, _expired, _of_tomorrow, _gone, _folder, _pipe, _rubbish, _half, _huge]


@pytest.mark.parametrize("break_it", BROKEN)
def test_pair_that_is_not_whole_and_good_is_refused_with_file_and_reason(
    authority: Authority, break_it: Callable[[Authority, Path, Path], str]
) -> None:
    certificate, key = authority.sign("server")
    said = break_it(authority, certificate, key)
    found = looked(certificate, key)
    assert found.pair is None
    assert found.problem.startswith(said)


@pytest.mark.parametrize("break_it", BROKEN)
def test_broken_renewal_keeps_the_pair_in_force_and_the_next_good_one_replaces_it(
    authority: Authority, break_it: Callable[[Authority, Path, Path], str]
) -> None:
    certificate, key = authority.sign("server")
    certificates = looked(certificate, key)
    before = certificates.pair
    assert before is not None
    assert "" == certificates.problem
    said = break_it(authority, certificate, key)
    certificates.look()
    assert before is certificates.pair
    assert certificates.problem.startswith(said)
    assert "; the certificate before stays in force, until " in certificates.problem
    for path in (certificate, key):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    authority.sign("server", ends_days=90)
    certificates.look()
    assert certificates.pair is not None
    assert before.not_after_s > certificates.pair.not_after_s
    assert ("", 1) == (certificates.problem, certificates.renewals)


def test_files_that_stay_as_they_are_keep_their_context(authority: Authority) -> None:
    certificate, key = authority.sign("server")
    certificates = looked(certificate, key)
    before = certificates.pair
    os.utime(certificate)
    certificates.look()
    assert before is certificates.pair
    assert 0 == certificates.renewals


@pytest.mark.parametrize(("days", "said"), [(10, ""), (86.5, "in 13 days"), (99.5, "in 0 days"), (101, "expired at ")])
def test_end_that_is_near_is_a_problem(authority: Authority, days: float, said: str) -> None:
    certificate, key = authority.sign("server", ends_days=100)
    certificates = Certificates(Tls(str(certificate), str(key)), Path("/"), now_s=lambda: time.time() + shift * DAY_S)
    shift = 0.0
    certificates.look()
    shift = days
    certificates.look()
    assert certificates.pair is not None
    assert (certificates.problem == "") == (said == "")
    assert said in certificates.problem


def test_authority_of_clients_that_is_none_or_has_expired_is_refused(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.sign("server")
    assert looked(certificate, key, authority.ca).pair is not None
    old, _ = authority.sign("old", begins_days=-9, ends_days=-2)
    assert f"{old}: expired at " in looked(certificate, key, old).problem
    empty = tmp_path / "empty.pem"
    empty.touch()
    assert f"{empty}: holds no certificate in PEM" == looked(certificate, key, empty).problem
