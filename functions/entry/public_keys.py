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
"""For a whole fetch: an issuer that sends a byte now and then holds nobody up."""


class Keys:
    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str | None, Any] | None = None
        self._fetched = self._tried = float("-inf")
        self._fetching = threading.Lock()

    def find(self, kid: str | None) -> Any:
        """The key (jwt.PyJWK), or None. Raises BadRequestError (503) when no keys could be had, now
        or before."""
        if self._keys is not None and kid in self._keys:
            self._refresh_aside()
            return self._keys[kid]
        with self._fetching:
            if self._may_fetch():
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

    def _may_fetch(self) -> bool:
        return time.monotonic() > self._tried + PAUSE_SECONDS

    def _refresh_aside(self) -> None:
        """Fetches keys that are old in a thread of their own: who has a key never waits for an
        issuer that hangs."""
        is_old = time.monotonic() > self._fetched + FRESH_SECONDS
        if is_old and self._may_fetch() and self._fetching.acquire(blocking=False):
            threading.Thread(target=self._refresh, daemon=True).start()

    def _refresh(self) -> None:
        """Gives the lock back that its caller has taken."""
        try:
            self._fetch()
        finally:
            self._fetching.release()

    def _fetch(self) -> None:
        import requests

        from functions.store.limit import within

        self._tried = time.monotonic()
        try:
            answer = within(
                TIMEOUT_SECONDS, lambda: requests.get(self._url, timeout=TIMEOUT_SECONDS)
            )
            answer.raise_for_status()
            self._keys = dict(map(_key, filter(_usable, answer.json()["keys"])))
        except (
            requests.RequestException,
            TimeoutError,
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
