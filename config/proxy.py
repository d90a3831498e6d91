"""Who asks: behind a proxy that is the person it speaks for, and never whom a stranger claims to be."""

from collections.abc import Callable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from django.conf import settings
from django.http import HttpRequest, HttpResponse

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# A proxy puts at least one of these before it, and then the peer is not who asks.
PROXIED = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_SERVER",
    "HTTP_FORWARDED",
    "HTTP_X_REAL_IP",
    "HTTP_X_CLIENT_IP",
    "HTTP_VIA",
)
YES, NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "")

# Where the believed scheme stands. No header of a client's can have this name: theirs all begin with HTTP_.
SCHEME = "largesse.scheme"


class Believed:
    """Which peers may say for whom they ask, and by which scheme: nobody, this machine and its private networks, or
    those that were named.

    A peer at a public address that was not named has no proxy before it: it came straight to us.
    """

    def __init__(self, words: str) -> None:
        """`words` is BEHIND_PROXY. Raises ValueError with a sentence for whoever set it."""
        self.anybody = words.strip().lower() not in NO
        self.named: list[Network] = []
        if not self.anybody or words.strip().lower() in YES:
            return
        try:
            self.named = [ip_network(word.strip(), strict=False) for word in words.split(",") if word.strip()]
        except ValueError as error:
            raise ValueError(
                "is true, false, or the addresses of your proxies, separated by commas (10.0.0.7, 10.1.0.0/16)"
            ) from error

    def __contains__(self, peer: str) -> bool:
        if not self.anybody:
            return False
        if not peer:
            # A socket file has no address: only what runs on this machine reaches it.
            return True
        address = read_address(peer)
        if address is None:
            return False
        return any(address in network for network in self.named) if self.named else not address.is_global

    def client(self, peer: str, claims: str) -> str:
        """Who asks when `peer` passes on the list `claims` (X-Forwarded-For): the last one no proxy of ours is.

        What stands further left was written by whoever asks, and proves nothing.
        """
        said = [read_address(word) for word in claims.split(",")]
        while self.named and len(said) > 1 and said[-1] is not None and str(said[-1]) in self:
            said.pop()
        return str(said[-1]) if said[-1] is not None else peer


def read_address(words: str) -> Address | None:
    """The address in `words`, with or without a port, or None. IPv4 inside IPv6 is IPv4."""
    words = words.strip()
    host = words[1:].partition("]")[0] if words.startswith("[") else words
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def shortened(words: str) -> str:
    """The network an address is of, enough to see a pattern and too little to name a person: 192.0.2.0, 2001:db8::."""
    address = read_address(words)
    if address is None:
        return "unknown"
    return str(ip_network(f"{address}/{24 if address.version == 4 else 48}", strict=False).network_address)


def believe_the_proxy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """From here on REMOTE_ADDR is who asks, for limits and logs alike, and SCHEME by what they came, if a proxy we
    believe said so. Both hang on BEHIND_PROXY alone; the headers stay, as a sign that a proxy is before us (`PROXIED`).
    """

    def led(request: HttpRequest) -> HttpResponse:
        peer = request.META.get("REMOTE_ADDR", "")
        if peer in settings.PROXIES:
            claims = request.META.get("HTTP_X_FORWARDED_FOR", "")
            request.META["REMOTE_ADDR"] = settings.PROXIES.client(peer, claims)
            request.META[SCHEME] = request.META.get("HTTP_X_FORWARDED_PROTO", "")
        return get_response(request)

    return led
