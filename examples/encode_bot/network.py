"""Downloads from the links of strangers: to public addresses only."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import aiohttp


class PrivateAddressError(OSError):
    """A link leads to this machine or its network."""


def new_session(*, private_links: bool) -> aiohttp.ClientSession:
    """A session whose every connection, after redirects too, leads to a public address.

    `private_links` permits the others.
    """
    connector = aiohttp.TCPConnector(socket_factory=None if private_links else _public_socket)
    # A video may take hours; a server that says nothing for a minute is gone.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=60)
    return aiohttp.ClientSession(connector=connector, timeout=timeout)


def _public_socket(info: tuple[Any, ...]) -> socket.socket:
    # Looked at where the connection is made: a name may have another address the second time.
    family, kind, protocol, _, address = info
    if not ipaddress.ip_address(address[0]).is_global:
        raise PrivateAddressError(f"{address[0]} is no public address")
    return socket.socket(family, kind, protocol)
