"""Debian's Janus with its videoroom, and a client of its API over a UNIX socket."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

API_SECONDS: Final = 10.0
ROOM: Final = 1
_LIBRARIES: Final = Path("/usr/lib/x86_64-linux-gnu/janus")
_PFUNIX: Final = "libjanus_pfunix.so"
_VIDEOROOM: Final = "libjanus_videoroom.so"
_MESSAGE_BYTES: Final = 1 << 20
_KINDS: Final = ("plugins", "transports", "events", "loggers")


def configure(folder: Path, address: str, event_loops: int | None) -> Path:
    """Write a configuration of one room in which nothing is recorded, and give its folder.

    Args:
        folder: empty; nothing outside of it is used but the libraries.
        address: of the only interface that ICE may use; Janus is lite, as our server is.
        event_loops: threads that serve all PeerConnections; None for the default, a thread for each.
    """
    loops = "" if event_loops is None else f"event_loops = {event_loops}"
    folders = "\n".join(f'{kind}_folder = "{_LIBRARIES / kind}"' for kind in _KINDS)
    unwanted = ",".join(sorted(path.name for path in (_LIBRARIES / "plugins").glob("*.so") if path.name != _VIDEOROOM))
    others = ",".join(sorted(path.name for path in (_LIBRARIES / "transports").glob("*.so") if path.name != _PFUNIX))
    files = {
        "janus.jcfg": f"""
            general: {{ configs_folder = "{folder}" {folders}
                debug_level = 2 session_timeout = 0 {loops} }}
            media: {{ ipv6 = false rtp_port_range = "20000-40000" }}
            nat: {{ ice_lite = true ice_enforce_list = "{address}" ignore_mdns = true }}
            plugins: {{ disable = "{unwanted}" }}
            transports: {{ disable = "{others}" }}
            """,
        "janus.transport.pfunix.jcfg": f"""
            general: {{ enabled = true json = "compact" path = "{folder / "api"}" type = "SOCK_SEQPACKET" }}
            """,
        "janus.plugin.videoroom.jcfg": f"""
            room-{ROOM}: {{ description = "bench" publishers = 100 bitrate = 0 fir_freq = 0 audiocodec = "opus"
                videocodec = "vp8" record = false transport_wide_cc_ext = true audiolevel_ext = true
                videoorient_ext = true audiolevel_event = false notify_joining = false }}
            """,
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


class JanusApi:
    """One session of the API; blocks for API_SECONDS at most."""

    def __init__(self, sock: socket.socket) -> None:
        """`sock` is connected to the `api` of a configured folder."""
        self._sock = sock
        self._sock.settimeout(API_SECONDS)
        self._transactions = 0
        self._session = 0
        self._feeds: list[int] = []
        self._session = int(self._ask({"janus": "create"})["data"]["id"])

    def publish(self, offer: str) -> str:
        """Join the room as a publisher; gives the answer."""
        handle = self._attach()
        joined = self._message(handle, {"request": "join", "ptype": "publisher", "room": ROOM}, None)
        self._feeds.append(int(joined["plugindata"]["data"]["id"]))
        event = self._message(handle, {"request": "publish"}, {"type": "offer", "sdp": offer})
        return str(event["jsep"]["sdp"])

    def subscribe(self) -> tuple[int, str]:
        """Subscribe to all publishers over one PeerConnection; gives the handle and the offer."""
        handle = self._attach()
        streams = [{"feed": feed} for feed in self._feeds]
        body = {"request": "join", "ptype": "subscriber", "room": ROOM, "streams": streams}
        return handle, str(self._message(handle, body, None)["jsep"]["sdp"])

    def start(self, handle: int, answer: str) -> None:
        """Answer the offer of a subscriber."""
        self._message(handle, {"request": "start"}, {"type": "answer", "sdp": answer})

    def _attach(self) -> int:
        return int(self._ask({"janus": "attach", "plugin": "janus.plugin.videoroom"})["data"]["id"])

    def _message(self, handle: int, body: dict[str, Any], jsep: dict[str, str] | None) -> dict[str, Any]:
        request: dict[str, Any] = {"janus": "message", "handle_id": handle, "body": body}
        if jsep is not None:
            request["jsep"] = jsep
        event = self._ask(request, awaits="event")
        data = event["plugindata"]["data"]
        if "error" in data:
            raise RuntimeError(f"Janus: {data['error']}")
        return event

    def _ask(self, request: dict[str, Any], awaits: str = "success") -> dict[str, Any]:
        self._transactions += 1
        transaction = str(self._transactions)
        if self._session:
            request["session_id"] = self._session
        self._sock.send(json.dumps({**request, "transaction": transaction}).encode())
        while True:
            response: dict[str, Any] = json.loads(self._sock.recv(_MESSAGE_BYTES))
            if response.get("transaction") != transaction:
                continue  # events of other handles
            if response["janus"] == "error":
                raise RuntimeError(f"Janus: {response['error']}")
            if response["janus"] == awaits:
                return response


@contextlib.contextmanager
def session(folder: Path) -> Iterator[JanusApi]:
    """A session of the API of a Janus that listens already."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(os.fspath(folder / "api"))
        yield JanusApi(sock)
