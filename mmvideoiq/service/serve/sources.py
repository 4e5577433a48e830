"""Which addresses the server reads for a client.

What a public host answers is trusted: FFmpeg follows its redirects and playlists to wherever they lead.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException

from mmvideoiq.video.network import SCHEMES

PUBLIC_PORTS = dict(http=80, https=443)  # schemes that may be read where only public hosts may


def check_source(source: str, streams: str) -> None:
    """Refuse what may not be read.

    Args:
        streams: of :class:`~mmvideoiq.service.serve.settings.Limits`.

    Raises:
        HTTPException: 400 no address, 403 not allowed here.
    """
    try:
        parts = urlsplit(source)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in SCHEMES:
        raise HTTPException(400, f"'source' must be an address that begins with {'://, '.join(SCHEMES)}://")
    if streams == "off":
        raise HTTPException(403, "this server reads no streams: start it with --streams public or any")
    if streams == "any":
        return
    if parts.scheme not in PUBLIC_PORTS or not is_public(host, port or PUBLIC_PORTS[parts.scheme]):
        raise HTTPException(
            403, "only http(s) of public hosts is read: start the server with --streams any for others"
        )


def is_public(host: str, port: int) -> bool:
    """Whether every address of a host is one of the public internet.

    Raises:
        HTTPException: 400, it has none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise HTTPException(400, f"the host {host!r} is not known") from None
    return all(is_global(str(address[0])) for *_, address in found)


def is_global(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if embedded is not None:
            return is_global(str(embedded))
        if ip in ipaddress.ip_network("64:ff9b::/96"):  # NAT64
            return is_global(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
    return ip.is_global and not ip.is_multicast
