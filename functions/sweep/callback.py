"""Calls the URL that a task brought along: over HTTPS, at an allowed host, and at no private
address, whatever the name of the host resolves to. A caller named it, who may be anybody."""

import ipaddress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPSConnectionPool
from urllib3.connection import HTTPSConnection

from functions.core.callback_url import is_allowed


class PrivateAddressError(ValueError):
    """The host resolves to an address that is not public."""


class _Connection(HTTPSConnection):
    """Looks at the address that it has reached, before anything is sent: a name may resolve to
    another one each time."""

    def _new_conn(self) -> Any:
        reached = super()._new_conn()
        if not is_public(reached.getpeername()[0]):
            reached.close()
            raise PrivateAddressError("a private address")
        return reached


class _Pool(HTTPSConnectionPool):
    ConnectionCls = _Connection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = {"https": _Pool}


def session(url: str, hosts: tuple[str, ...]) -> requests.Session:
    """One that can reach this URL alone. Raises ValueError when it may not be called."""
    if not is_allowed(url, hosts):
        raise ValueError("the host is not allowed")
    guarded = requests.Session()
    guarded.trust_env = False  # a proxy would reach private addresses for us
    guarded.mount("https://", _Adapter())
    return guarded


def is_public(address: str) -> bool:
    """Whether the address is one of the Internet."""
    at = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(at, "ipv4_mapped", None) or getattr(at, "sixtofour", None)
    return at.is_global and not at.is_multicast and (mapped is None or mapped.is_global)
