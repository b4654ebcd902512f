"""Whether an IP address is one of the public internet, in whatever it is wrapped."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

TRANSLATED = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))  # mapped; NAT64
TUNNELS = (IPv6Network("2002::/16"), IPv6Network("2001::/32"), IPv6Network("::/96"))
ISATAP = (0x00005EFE, 0x02005EFE)  # bits 32 to 63, before an IPv4 address
LOW = 2**32 - 1


def address_of(text: str) -> Address | None:
    """The address that a text spells in the usual way; None for anything else."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Neither private, loopback, link-local, multicast nor reserved, nor a tunnel to such."""
    if isinstance(address, IPv6Address):
        if any(address in network for network in TRANSLATED):
            return is_public(IPv4Address(int(address) & LOW))
        tunnel = any(address in network for network in TUNNELS)
        if tunnel or (int(address) >> 32) & LOW in ISATAP or address.is_site_local:
            return False
    special = address.is_multicast or address.is_unspecified or address.is_reserved
    return address.is_global and not special
