"""Put on a command's path by a test: notes every address outside this machine that any of its processes looks up."""

import os
import socket
from pathlib import Path

_NOTES = os.environ.get("ADDRESSES_ASKED")


def _note(host: object) -> None:
    if _NOTES and str(host) not in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "None", ""):
        with Path(_NOTES).open("a", encoding="utf-8") as notes:
            notes.write(f"{host}\n")


def _watched(original):
    def wrapper(host, *arguments, **keywords):
        _note(host.decode() if isinstance(host, bytes) else host)
        return original(host, *arguments, **keywords)

    return wrapper


socket.getaddrinfo = _watched(socket.getaddrinfo)
socket.gethostbyname = _watched(socket.gethostbyname)


class _WatchedSocket(socket.socket):
    def connect(self, address):
        if isinstance(address, tuple):
            _note(address[0])
        return super().connect(address)


socket.socket = _WatchedSocket
