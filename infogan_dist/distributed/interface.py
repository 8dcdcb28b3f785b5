"""The network interface between hosts. Gloo takes the one of the host's name, which many systems resolve to the loopback."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import MutableMapping
from contextlib import suppress

SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of an interface


def choose_interface(environment: MutableMapping[str, str]) -> None:
    """Set GLOO_SOCKET_IFNAME, unless it is set, to the interface through which this host reaches MASTER_ADDR, if that is known."""
    name = interface_to(environment.get("MASTER_ADDR", ""))
    if name is not None:
        environment.setdefault("GLOO_SOCKET_IFNAME", name)


def interface_to(host: str) -> str | None:
    """Name of the interface whose IPv4 address this host uses towards `host`. None for the loopback and where Linux's call is absent."""
    if os.name != "posix" or not host:
        return None
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))  # UDP: chooses a route and sends nothing
        except OSError:
            return None
        own = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(answer[20:24]) == own and not own.startswith("127."):
                    return name
    return None
