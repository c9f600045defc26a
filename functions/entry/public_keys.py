"""The public keys that an issuer of tokens publishes (JWKS): fetched when they are needed, kept,
and fetched again for a key that is new. When the issuer is away, what is kept goes on serving."""

import threading
import time
from functools import lru_cache
from typing import Any

from functions.errors import BadRequestError

FRESH = 600.0
"""Seconds that keys are believed without a look: Supabase's edge caches them as long."""
PAUSE = 10.0
"""Seconds between two fetches at least: tokens with keys that nobody has must not become requests
to the issuer."""
TIMEOUT = 3.0
"""Seconds to connect, and again for each read."""


class Keys:
    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str | None, Any] | None = None
        self._fetched = self._tried = float("-inf")
        self._fetching = threading.Lock()

    def find(self, kid: str | None) -> Any:
        """The key (jwt.PyJWK), or None. Raises BadRequestError (503) when no keys could be had, now
        or before."""
        if self._keys is None or kid not in self._keys or time.monotonic() > self._fetched + FRESH:
            with self._fetching:
                if time.monotonic() > self._tried + PAUSE:
                    self._fetch()
        if self._keys is None:
            text = "The keys to check the token with cannot be had now. Try again."
            raise BadRequestError(
                text, status=503, code="unavailable", headers={"Retry-After": str(int(PAUSE))}
            )
        return self._keys.get(kid)

    def _fetch(self) -> None:
        import requests

        self._tried = time.monotonic()
        try:
            answer = requests.get(self._url, timeout=TIMEOUT)
            answer.raise_for_status()
            self._keys = dict(map(_key, filter(_usable, answer.json()["keys"])))
        except (
            requests.RequestException,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ) as error:
            from functions.core import events

            events.emit(events.KEYS_NOT_FETCHED, issuer=self._url, error=repr(error))
            return
        self._fetched = self._tried


def _usable(one: dict[str, Any]) -> bool:
    """To verify by, and public: a secret among them would let a public key pass for one."""
    return one.get("use", "sig") == "sig" and (one.get("kty"), one.get("crv")) in {
        ("EC", "P-256"),
        ("RSA", None),
    }


def _key(one: dict[str, Any]) -> tuple[str | None, Any]:
    from jwt import PyJWK
    from jwt.exceptions import PyJWKError

    try:
        return one.get("kid"), PyJWK.from_dict(one, "RS256" if one["kty"] == "RSA" else "ES256")
    except PyJWKError as error:
        raise ValueError(str(error)) from None


@lru_cache
def keys(url: str) -> Keys:
    return Keys(url)
