"""The blocking client of the control socket, against a socket that says what the test wants."""

import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from gateway.access import codes
from gateway.control.client import ControlClient
from gateway.control.messages import Refused, Reply, refusal


def answered(folder: Path, replies: Sequence[Reply], timeout_s: float) -> tuple[Reply, int]:
    """The reply that a client gives, and how often it asked, where the server gives ``replies`` one by one, the last for ever."""
    path = folder / "control.sock"
    asked = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            nonlocal asked
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    number = msgspec.json.decode(line)["id"]
                    reply = replies[min(asked, len(replies) - 1)]
                    asked += 1
                    connection.sendall(msgspec.json.encode(msgspec.structs.replace(reply, id=number)) + b"\n")

        server = threading.Thread(target=serve)
        server.start()
        with ControlClient(folder, operator="owner", socket_path=path, timeout_s=timeout_s) as client:
            reply = client.request("user_list")
        server.join()
    return reply, asked


STARTING = refusal(1, Refused(codes.STARTING, "not connected yet", retry_ms=10))
AWAY = refusal(1, Refused(codes.UNAVAILABLE))
USERS = Reply(1, ok=True, result={"users": []})


def test_what_an_exchange_cannot_do_yet_is_asked_again_until_it_can(tmp_path: Path) -> None:
    reply, asked = answered(tmp_path, (STARTING, STARTING, USERS), 60)
    assert (USERS.result, 3) == (reply.result, asked)


def test_asking_again_ends_with_the_time_for_an_answer(tmp_path: Path) -> None:
    reply, asked = answered(tmp_path, (STARTING,), 0.2)
    assert reply.error is not None
    assert (codes.STARTING, True) == (reply.error.code, 1 < asked <= 21)


def test_any_other_refusal_is_the_answer(tmp_path: Path) -> None:
    reply, asked = answered(tmp_path, (AWAY, USERS), 60)
    assert reply.error is not None
    assert (codes.UNAVAILABLE, 1) == (reply.error.code, asked)
