"""The public keys that an issuer of tokens publishes (JWKS): fetched when a token needs them, kept,
and fetched again for a key that is new. While the issuer does not answer, the keys that are kept go
on serving; PyJWT's own client would refuse every token once its cache has run out."""

import threading
import time
from typing import Any

from functions.errors import BadRequestError

FRESH_SECONDS = 600.0
"""So long keys are taken without another fetch: Supabase's edge caches them as long."""
PAUSE_SECONDS = 10.0
"""Between two fetches: a flood of tokens with made-up keys must not become a flood of requests to
the issuer."""
TIMEOUT_SECONDS = 3.0
"""To connect, and again for each read."""


class Keys:
    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str | None, Any] | None = None
        self._fetched = self._tried = float("-inf")
        self._fetching = threading.Lock()

    def find(self, kid: str | None) -> Any:
        """The key (jwt.PyJWK), or None. Raises BadRequestError (503) when no keys could be had, now
        or before."""
        if (
            self._keys is None
            or kid not in self._keys
            or time.monotonic() > self._fetched + FRESH_SECONDS
        ):
            with self._fetching:
                if time.monotonic() > self._tried + PAUSE_SECONDS:
                    self._fetch()
        if self._keys is None:
            text = "The keys to check the token with cannot be had now. Try again."
            raise BadRequestError(
                text,
                status=503,
                code="unavailable",
                headers={"Retry-After": str(int(PAUSE_SECONDS))},
            )
        return self._keys.get(kid)

    def _fetch(self) -> None:
        import requests

        self._tried = time.monotonic()
        try:
            answer = requests.get(self._url, timeout=TIMEOUT_SECONDS)
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


def _usable(jwk: dict[str, Any]) -> bool:
    """A public key that verifies signatures. A shared secret among the keys is left out: with it,
    anybody who reads the page could sign a token."""
    kinds = {("EC", "P-256"), ("RSA", None)}
    return jwk.get("use", "sig") == "sig" and (jwk.get("kty"), jwk.get("crv")) in kinds


def _key(jwk: dict[str, Any]) -> tuple[str | None, Any]:
    from jwt import PyJWK
    from jwt.exceptions import PyJWKError

    try:
        return jwk.get("kid"), PyJWK.from_dict(jwk, "RS256" if jwk["kty"] == "RSA" else "ES256")
    except PyJWKError as error:
        raise ValueError(str(error)) from None
