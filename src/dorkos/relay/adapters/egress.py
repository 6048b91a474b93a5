"""Requests to the outside: to the address that was checked and no other, bounded in time and size.

The name is resolved here, every address that it has is checked, and the connection is made to one of those:
a name that points elsewhere a moment later changes nothing. Redirects are answers, never followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_ANSWER_BYTES_MAX = 1024 * 1024
_ADDRESSES_MAX = 3

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class ForbiddenAddressError(Exception):
    """The name leads to an address that must not be reached."""


class NotSentError(Exception):
    """No connection came about, so nothing was sent."""


class UnclearError(Exception):
    """The connection broke, or the time was over, after the request may have been read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side said. The body is cut at a megabyte."""

    status: int
    headers: httpx.Headers
    body: bytes


class Egress:
    """One adapter's way out."""

    def __init__(self, *, allow_private: bool, timeout_s: float) -> None:
        """`timeout_s` bounds a whole request, from the name to the last byte of the answer."""
        self._allow_private = allow_private
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,  # A proxy would resolve the name again, and connect where it likes.
            timeout=httpx.Timeout(timeout_s),
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=2),
        )

    async def close(self) -> None:
        """Close the connections that were kept."""
        await self._client.aclose()

    async def check(self, url: str) -> None:
        """Find out whether the URL leads anywhere that may be reached. Raises as `post` does."""
        async with asyncio.timeout(self._timeout_s):
            await self._addresses(url)

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float | None = None
    ) -> Answer:
        """Send a request and read the answer.

        Raises `ForbiddenAddressError`, `NotSentError` or `UnclearError`.
        """
        connected = False
        try:
            async with asyncio.timeout(timeout_s or self._timeout_s):
                addresses = await self._addresses(url)
                connected = True
                return await self._to_one_of(addresses, url, headers, body)
        except TimeoutError as fault:
            if not connected:
                raise NotSentError("its name could not be resolved in time") from fault
            raise UnclearError("it did not answer in time") from fault

    async def _to_one_of(
        self, addresses: list[IpAddress], url: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        for number, address in enumerate(addresses[:_ADDRESSES_MAX], start=1):
            try:
                return await self._post(address, url, headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout) as fault:
                if number == len(addresses[:_ADDRESSES_MAX]):
                    raise NotSentError(f"it cannot be reached: {fault!s}") from fault
            except httpx.TimeoutException as fault:
                raise UnclearError("it did not answer in time") from fault
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as fault:
                raise UnclearError(f"the connection broke: {fault!s}") from fault
        raise NotSentError("its name has no address")

    async def _post(self, address: IpAddress, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        parts = urlsplit(url)
        target = httpx.URL(url).copy_with(host=str(address))
        sent = {**headers, "Host": parts.netloc, "Accept": "*/*", "User-Agent": "dorkos"}
        request = self._client.build_request(
            "POST",
            target,
            headers=sent,
            content=body,
            # The certificate has to be that of the name, not of the address.
            extensions={"sni_hostname": parts.hostname},
        )
        response = await self._client.send(request, stream=True)
        try:
            read = bytearray()
            async for piece in response.aiter_bytes():
                read += piece
                if len(read) >= _ANSWER_BYTES_MAX:
                    break
            return Answer(response.status_code, response.headers, bytes(read[:_ANSWER_BYTES_MAX]))
        finally:
            await response.aclose()

    async def _addresses(self, url: str) -> list[IpAddress]:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as fault:
            raise NotSentError(f"the name {host} cannot be resolved: {fault}") from fault
        texts = dict.fromkeys(str(entry[4][0]).split("%")[0] for entry in found)
        addresses = [ipaddress.ip_address(text) for text in texts]
        if not addresses:
            raise NotSentError(f"the name {host} has no address")
        if not self._allow_private:
            for address in addresses:
                if not is_public(address):
                    raise ForbiddenAddressError(
                        f"{host} leads to {address}, which is no public address; set `allowPrivate` if"
                        " that is meant"
                    )
        return addresses


def is_public(address: IpAddress) -> bool:
    """Whether an address belongs to the internet, also one that is wrapped in another."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast
