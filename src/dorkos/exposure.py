"""Whether a server may listen where others can reach it."""

from __future__ import annotations

import ipaddress

from dorkos.errors import DorkError, ErrorCode
from dorkos.setting_groups.server import ServerSettings


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address. A name other than localhost may lead anywhere."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(settings: ServerSettings) -> None:
    """Raise `exposure_refused` for an address beyond this machine as long as nobody said by which names the
    server is called there. A token is needed by every request in any case.
    """
    if is_loopback(settings.host) or settings.allowed_hosts:
        return
    raise DorkError(
        ErrorCode.EXPOSURE_REFUSED,
        f"On {settings.host} other machines would reach this server, and no name is allowed to them.",
        hint="Name what they will call it: --allow-host NAME, or `dorkos config set server.allowedHosts "
        "NAME`. Requests are not encrypted: put a proxy that speaks TLS in front of it.",
        details={"host": settings.host},
    )
