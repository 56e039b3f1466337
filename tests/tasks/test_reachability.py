"""What counts as a server that is there."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator

import pytest

from federated.errors import TrackingError
from tasks.reachability import require


@pytest.fixture
def answering() -> Iterator[Callable[[str], str]]:
    """Starts servers that give every request the same answer; gives their URLs."""
    servers: list[socketserver.TCPServer] = []

    def start(answer: str) -> str:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.recv(4096)
                self.request.sendall(answer.encode())

        servers.append(socketserver.TCPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"127.0.0.1:{servers[-1].server_address[1]}/health"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(url: str) -> None:
    require(url, "MLflow", "MLFLOW_TRACKING_URI", TrackingError)


@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized", "403 Forbidden", "404 Not Found"])
def test_a_server_that_answers_is_there_though_it_may_ask_who_we_are(
    answering: Callable[[str], str], status: str
) -> None:
    ask("http://" + answering(f"HTTP/1.0 {status}\r\n\r\n"))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("HTTP/1.0 503 Service Unavailable\r\n\r\n", r"Service Unavailable"),
        ("HTTP/1.0 500 Internal Server Error\r\n\r\n", r"Internal Server Error"),
        ("SSH-2.0-OpenSSH\r\n", r"SSH"),
        ("", r"closed"),
    ],
)
def test_a_server_that_is_broken_or_speaks_otherwise_is_not(
    answering: Callable[[str], str], answer: str, reason: str
) -> None:
    with pytest.raises(TrackingError, match=rf"MLflow cannot be reached at http://127.*{reason}.*MLFLOW_TRACKING_URI"):
        ask(f"http://{answering(answer)}")


def test_a_user_and_a_password_are_not_shown(answering: Callable[[str], str]) -> None:
    ask("http://user:secret@" + answering("HTTP/1.0 200 OK\r\n\r\n"))
    with pytest.raises(TrackingError, match="MLflow cannot be reached at http://127") as failure:
        ask("http://user:secret@127.0.0.1:9/health")
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize("url", ["http:///health", "http://127.0.0.1:port/health", "nonsense"])
def test_what_is_no_address_is_one_line(url: str) -> None:
    with pytest.raises(TrackingError, match="MLflow cannot be reached at"):
        ask(url)
