import pytest

from gateway.listening.settings import Address, AddressError, Listening, Tls, address_of, wrong

PAIR = Tls("server.crt", "server.key")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7443", Address("127.0.0.1", 7443)),
        ("localhost:7443", Address("127.0.0.1", 7443)),
        ("[::1]:7443", Address("::1", 7443)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
    ],
)
def test_address_and_port_are_read(text: str, address: Address) -> None:
    assert address == address_of(text)


@pytest.mark.parametrize(
    "text", ["", "7443", ":7443", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "::1:7443", "[127.0.0.1]:1",
             "[]:1", "127.0.0.1:-1", "127.0.0.1:٣", "host.example:7443", "[host.example]:7443"]
)  # fmt: skip
def test_what_is_no_address_to_listen_on_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        address_of(text)


def test_client_connects_to_names_too() -> None:
    assert Address("exchange.example", 7443) == address_of("exchange.example:7443", to_connect=True)
    with pytest.raises(AddressError):
        address_of("exchange:example:7443", to_connect=True)


@pytest.mark.parametrize(
    "settings",
    [
        Listening(),
        Listening("127.0.0.1:7443"),
        Listening("[::1]:7443"),
        Listening("localhost:7443"),
        Listening("0.0.0.0:7443", PAIR),
        Listening("203.0.113.5:7443", Tls("a", "b", "c")),
        Listening("0.0.0.0:7443", plain_text=True),
    ],
)
def test_loopback_and_tls_and_plain_text_that_was_asked_for_are_right(settings: Listening) -> None:
    assert wrong(settings) is None


@pytest.mark.parametrize(
    ("settings", "key", "said"),
    [
        (Listening("0.0.0.0:7443"), "listen", "say plain_text = true"),
        (Listening("[::]:7443"), "listen", "set tls.certificate and tls.key"),
        (Listening("192.168.1.5:7443"), "listen", "other machines reach this address"),
        (Listening("somewhere:7443"), "listen", "no IP address"),
        (Listening("127.0.0.1:1", Tls(certificate="a")), "tls.certificate", "goes with tls.key"),
        (Listening("127.0.0.1:1", Tls(key="a")), "tls.key", "goes with tls.certificate"),
        (Listening("127.0.0.1:1", Tls(client_ca="a")), "tls.client_ca", "over TLS only"),
        (Listening("0.0.0.0:1", PAIR, plain_text=True), "plain_text", "contradicts"),
    ],
)
def test_settings_that_would_speak_in_plain_text_or_contradict_are_refused(
    settings: Listening, key: str, said: str
) -> None:
    found = wrong(settings)
    assert found is not None
    assert key == found[0]
    assert said in found[1]
