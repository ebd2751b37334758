"""Keys: signatures, addresses, expiry, and what a key says of itself."""

import base64
import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from gateway.access import changes, codes, keys
from gateway.access.keys import address, introspected
from gateway.access.records import shown
from gateway.access.sealing import Seal, SealError, key_file
from persistence.postgres.users import KEY_FILE
from tests.access.support import HOME, SECOND_NS, World, denied

PAYLOAD = b"symbol=BTCUSDT&side=BUY&timestamp=1499827319559"
# The example of the documentation that clients are written after.
DOCUMENTED_SECRET = b"NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
DOCUMENTED_PAYLOAD = (
    b"symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
)
DOCUMENTED_SIGNATURE = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"


def signed(secret: bytes, payload: bytes = PAYLOAD) -> str:
    return hmac.new(secret, payload, hashlib.sha256).hexdigest()


def pem(key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> str:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, spki).decode()


def test_hmac_signature_of_the_documented_example_is_right() -> None:
    assert keys.proof(keys.HMAC, DOCUMENTED_SECRET)(DOCUMENTED_PAYLOAD, DOCUMENTED_SIGNATURE)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
def test_hmac_of_a_secret_of_any_length_is_that_of_the_standard_library(length: int) -> None:
    secret = bytes(range(1, 201))[:length]
    assert keys.proof(keys.HMAC, secret)(PAYLOAD, signed(secret))
    assert not keys.proof(keys.HMAC, secret)(PAYLOAD, signed(secret + b"!"))


def test_hmac_key_signs_in_whatever_the_case_of_its_signature() -> None:
    world = World()
    world.user("ann", 1)
    expected = world.hmac_key("ann", "k", b"s3cret")
    for signature in (signed(b"s3cret"), signed(b"s3cret").upper()):
        verdict, principal = world.authenticator.key("k", PAYLOAD, signature, HOME, world.now_ns)
        assert verdict.allowed
        assert expected == principal


@pytest.mark.parametrize("signature", ["", "é" * 64, "0" * 64, signed(b"other"), signed(b"s3cret")[:-1]])
def test_wrong_signature_and_unknown_key_get_the_same_answer(signature: str) -> None:
    world = World()
    world.user("ann", 1)
    world.hmac_key("ann", "k", b"s3cret")
    known = world.authenticator.key("k", PAYLOAD, signature, HOME, world.now_ns)
    assert known == world.authenticator.key("unknown", PAYLOAD, signature, HOME, world.now_ns)
    assert codes.BAD_CREDENTIALS == known[0].code


def test_changed_payload_is_refused() -> None:
    world = World()
    world.user("ann", 1)
    world.hmac_key("ann", "k", b"s3cret")
    assert not world.authenticator.key("k", PAYLOAD + b"1", signed(b"s3cret"), HOME, world.now_ns)[0].allowed


def test_ed25519_and_rsa_keys_sign_in_and_others_do_not() -> None:
    world = World()
    world.user("ann", 1)
    edwards, rivest = ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)
    world.hmac_key("ann", "e", kind=keys.ED25519, public_pem=pem(edwards), secret=b"")
    world.hmac_key("ann", "r", kind=keys.RSA, public_pem=pem(rivest), secret=b"")
    by_e = base64.b64encode(edwards.sign(PAYLOAD)).decode()
    by_r = base64.b64encode(rivest.sign(PAYLOAD, padding.PKCS1v15(), hashes.SHA256())).decode()
    found = {
        (key, signature): world.authenticator.key(key, PAYLOAD, text, HOME, world.now_ns)[0].allowed
        for key in "er"
        for signature, text in (("e", by_e), ("r", by_r), ("none", ""), ("no base64", "§§"))
    }
    assert {("e", "e"), ("r", "r")} == {pair for pair, allowed in found.items() if allowed}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (keys.ED25519, "no pem"),
        (keys.RSA, pem(ed25519.Ed25519PrivateKey.generate())),
        (keys.ED25519, "-----BEGIN PRIVATE KEY-----"),
        (keys.RSA, pem(rsa.generate_private_key(65537, 1024))),
    ],
)
def test_what_is_no_public_key_of_the_kind_is_refused(kind: str, text: str) -> None:
    assert codes.BAD_VALUE == denied(lambda: keys.public_bytes(kind, text))


def test_expired_and_revoked_keys_are_refused_at_once() -> None:
    world = World()
    world.user("ann", 1)
    world.hmac_key("ann", "soon", b"a", expires_ns=world.now_ns + SECOND_NS)
    world.hmac_key("ann", "gone", b"b")
    ask = lambda key, secret: world.authenticator.key(key, PAYLOAD, signed(secret), HOME, world.now_ns)[0].code  # noqa: E731
    assert [0, 0] == [ask("soon", b"a"), ask("gone", b"b")]
    world.apply(changes.revoke_key(world.directory, "gone", world.now_ns))
    world.now_ns += SECOND_NS
    assert [codes.KEY_EXPIRED, codes.KEY_REVOKED] == [ask("soon", b"a"), ask("gone", b"b")]


def test_expiry_is_told_only_to_who_has_the_secret() -> None:
    world = World()
    world.user("ann", 1)
    world.hmac_key("ann", "soon", b"a", expires_ns=world.now_ns + SECOND_NS)
    world.now_ns += SECOND_NS
    assert codes.BAD_CREDENTIALS == world.authenticator.key("soon", PAYLOAD, signed(b"x"), HOME, world.now_ns)[0].code


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("203.0.113.7", 0),
        ("::ffff:203.0.113.7", 0),
        ("203.0.114.7", codes.ADDRESS_NOT_ALLOWED),
        ("2001:db8::1", 0),
        ("2001:db9::1", codes.ADDRESS_NOT_ALLOWED),
        ("127.0.0.1", codes.ADDRESS_NOT_ALLOWED),
    ],
)
def test_allow_list_decides_where_a_key_works(where: str, expected: int) -> None:
    world = World()
    world.user("ann", 1)
    world.hmac_key("ann", "k", b"s", networks=("203.0.113.0/24", "2001:db8::/64"))
    verdict, _ = world.authenticator.key("k", PAYLOAD, signed(b"s"), address(where), world.now_ns)
    assert expected == verdict.code


@pytest.mark.parametrize("text", ["203.0.113.7/24", "everywhere", "", "10.0.0.0/33"])
def test_network_that_is_none_is_refused(text: str) -> None:
    assert codes.BAD_VALUE == denied(lambda: keys.networks((text,)))


def test_fix_credential_logs_on_with_its_comp_id_and_secret_only() -> None:
    world = World()
    world.user("ann", 1)
    world.hmac_key("ann", "ann.fix", b"s3cret", kind=keys.FIX, comp_id="ANN")
    tried = [
        world.authenticator.credential(kind, name, secret, HOME, world.now_ns, comp_id)[0].code
        for kind, name, secret, comp_id in (
            ("fix", "ann.fix", "s3cret", "ANN"),
            ("fix", "ann.fix", "s3cret", "BOB"),
            ("fix", "ann.fix", "wrong", "ANN"),
            ("binary", "ann.fix", "s3cret", "ANN"),
            ("fix", "nobody", "s3cret", "ANN"),
        )
    ]
    assert [0] + [codes.BAD_CREDENTIALS] * 4 == tried
    assert (
        codes.BAD_CREDENTIALS
        == world.authenticator.key("ann.fix", PAYLOAD, signed(b"s3cret"), HOME, world.now_ns)[0].code
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"permissions": ()}, codes.BAD_VALUE),
        ({"permissions": ("everything",)}, codes.BAD_VALUE),
        ({"accounts": (2,)}, codes.NOT_YOUR_ACCOUNT),
        ({"accounts": (99,)}, codes.NOT_YOUR_ACCOUNT),
        ({"expires_ns": 1}, codes.BAD_VALUE),
        ({"kind": "password"}, codes.BAD_VALUE),
        ({"kind": "fix"}, codes.BAD_VALUE),
        ({"comp_id": "ANN"}, codes.BAD_VALUE),
        ({"label": "x\n"}, codes.BAD_VALUE),
        ({"networks": ("10.0.0.0/8",) * 33}, codes.TOO_MANY),
    ],
)
def test_key_that_makes_no_sense_is_refused(more: dict[str, Any], expected: int) -> None:
    world = World()
    world.user("ann", 1)
    world.user("bob", 2)
    assert expected == denied(lambda: world.hmac_key("ann", "k", **more))
    assert {} == world.directory.keys


def test_key_says_what_it_may_do_in_words_and_as_data() -> None:
    world = World()
    world.user("ann", 1, 5, 6)
    world.hmac_key("ann", "k", permissions=("read", "trade"), networks=("10.0.0.0/8",), accounts=(5,))
    said = introspected(world.directory, world.directory.keys["k"], world.now_ns)
    assert (
        "may read balances, orders and history; place, change and cancel orders; for accounts 5; from 10.0.0.0/8"
        == (said["words"])
    )
    assert (["read", "trade"], [5], False, True) == (
        said["permissions"],
        said["accounts"],
        said["all_accounts"],
        said["active"],
    )
    world.apply(changes.revoke_key(world.directory, "k", world.now_ns))
    assert "may nothing: the key was revoked" == introspected(world.directory, world.directory.keys["k"], 1)["words"]


def test_secret_is_sealed_and_is_not_in_what_a_row_shows() -> None:
    world = World()
    world.user("ann", 1)
    world.hmac_key("ann", "k", b"very-secret-text")
    row = world.directory.keys["k"]
    assert b"very-secret-text" not in row.secret
    assert b"very-secret-text" == world.seal.open(row.secret, "key k")
    for text in (repr(row), str(row), str(shown(row)), repr(world.directory.users[1]), f"{world.directory.users[1]}"):
        assert "very-secret" not in text
        assert "argon2" not in text
        assert row.secret.hex() not in text


def test_sealed_secret_opens_for_its_owner_with_its_key_only() -> None:
    sealed = Seal(bytes(32)).seal(b"secret", "key a")
    for seal, owner, text in (
        (Seal(bytes(32)), "key b", sealed),
        (Seal(b"\x01" * 32), "key a", sealed),
        (Seal(bytes(32)), "key a", sealed[:-1] + b"\x00"),
        (Seal(bytes(32)), "key a", b"\x02" + sealed[1:]),
    ):
        with pytest.raises(SealError):
            seal.open(text, owner)


def test_key_file_is_made_once_and_refused_when_others_may_read_it(tmp_path: Path) -> None:
    key = key_file(tmp_path)
    assert key == key_file(tmp_path)
    assert 0o600 == (tmp_path / KEY_FILE).stat().st_mode & 0o777
    (tmp_path / KEY_FILE).chmod(0o640)
    with pytest.raises(SealError, match="chmod 600"):
        key_file(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o600)
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(SealError, match="5 bytes"):
        key_file(tmp_path)
