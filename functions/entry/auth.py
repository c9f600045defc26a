"""Who calls: users by their Supabase JWT, workers and schedulers by their Google OIDC token, in
`Authorization: Bearer`.

USERS=none says that IAM alone decides which clients may call. Where OIDC_* is not set, IAM decides
it for workers and schedulers. IAM takes the signature
out of the tokens that it has checked, so OIDC_* is for functions that the world can reach. Behind
IAM a user's JWT stays in Authorization when the caller's own token is in
X-Serverless-Authorization."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from functions.entry.app import App
from functions.errors import BadRequestError, PolicyError

LEEWAY_SECONDS = 10.0
"""So far the clocks of issuer and function may differ."""
PUBLIC_KEY_ALGORITHMS = ["ES256", "RS256"]
GOOGLE_KEYS = "https://www.googleapis.com/oauth2/v3/certs"
GOOGLE_ISSUERS = ["https://accounts.google.com", "accounts.google.com"]

Claims = Mapping[str, Any]


def user(app: App, request: Any) -> str | None:
    """The user whose tasks the caller may touch. None: anybody's (IAM has checked the caller, or
    it is the service role).

    Raises BadRequestError (401 with the reason; 503 when the keys cannot be fetched).
    """
    settings = app.settings
    if not settings.asks_users:
        return None
    if not (settings.jwt_secret or settings.users_keys):
        raise PolicyError(
            "Users' tokens cannot be checked: there is no key. Set SUPABASE_URL (or "
            "SUPABASE_JWT_SECRET, SUPABASE_JWKS_URL); or USERS=none, if IAM alone decides who may "
            "call."
        )
    token = _bearer(request)

    def key(header: Claims) -> Any:
        return _users_key(app, header)

    # Unverified: the role only selects which checks follow; every branch then verifies the
    # signature or refuses.
    role = _claims(token, verify=False).get("role")
    if role == "anon":
        raise refused(
            "anonymous", "This is the anon key. Send the access token of a user who is signed in."
        )
    audience = settings.jwt_audience or "authenticated"
    if role == "service_role":  # a backend, for any user
        if _is_signed_by_secret(token):  # the project's own: its token names no audience
            _claims(token, key, options={"require": ["exp"], "verify_aud": False})
            return None
        if not settings.issuer:  # the keys may be shared: another tenant's user could claim it
            raise refused("wrong_issuer", _REFUSALS["wrong_issuer"])
        required = {"require": ["exp", "aud", "iss"]}
        _claims(token, key, audience=audience, issuer=settings.issuer, options=required)
        return None
    claims = _claims(
        token,
        key,
        audience=audience,
        issuer=settings.issuer,
        options={"require": ["exp", "sub", "aud"]},
    )
    subject = str(claims["sub"])
    if not subject.strip():
        raise refused("no_subject", "The token names no user: its `sub` is empty.")
    if re.search(r"[\x00\ud800-\udfff]", subject):  # no database stores it: nobody's task is theirs
        raise refused("no_subject", "The token names no user: its `sub` is no text.")
    return subject


def machine(app: App, request: Any) -> None:
    """Lets workers and schedulers pass. Raises BadRequestError (401, 403, 503), PolicyError for
    half a configuration."""
    audience, accounts = app.settings.oidc_audience, app.settings.oidc_accounts
    if not audience and not accounts:
        return
    if not audience or not accounts:  # anybody at Google can get a token for any audience
        raise PolicyError(
            "Only one of OIDC_AUDIENCE and OIDC_ACCOUNTS is set. Set both, or neither behind IAM."
        )
    claims = _claims(
        _bearer(request),
        lambda header: _public_key(app, GOOGLE_KEYS, header),
        audience=list(audience),
        issuer=GOOGLE_ISSUERS,
        options={"require": ["exp", "aud", "iss", "email"]},
    )
    if claims.get("email_verified") is not True or claims["email"] not in accounts:
        raise BadRequestError("This account may not call.", status=403, code="wrong_account")


def refused(code: str, message: str, **challenge: str) -> BadRequestError:
    """A 401 with its reason. RFC 6750 wants it in a header too."""
    challenge = challenge or {"error": "invalid_token", "error_description": message}
    text = ", ".join(f'{name}="{value}"' for name, value in challenge.items())
    return BadRequestError(
        message, status=401, code=code, headers={"WWW-Authenticate": f"Bearer {text}"}
    )


def _bearer(request: Any) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise refused("no_token", "Send a token: `Authorization: Bearer ...`.", realm="tasks")
    if token.endswith(".SIGNATURE_REMOVED_BY_GOOGLE"):
        raise refused(
            "signature_removed",
            "IAM has taken the signature out of this token. "
            "Behind IAM, leave OIDC_AUDIENCE and OIDC_ACCOUNTS unset.",
        )
    return str(token.strip())


def _is_signed_by_secret(token: str) -> bool:
    import jwt

    return bool(jwt.get_unverified_header(token).get("alg") == "HS256")


def _users_key(app: App, header: Claims) -> Any:
    """By the algorithm that the token names: each has a key of its own kind, so that none can pass
    for another."""
    settings = app.settings
    if header.get("alg") == "HS256" and settings.jwt_secret:
        return settings.jwt_secret
    if header.get("alg") in PUBLIC_KEY_ALGORITHMS and settings.users_keys:
        return _public_key(app, settings.users_keys, header)
    raise refused("wrong_algorithm", _REFUSALS["wrong_algorithm"])


def _public_key(app: App, url: str, header: Claims) -> Any:
    key = app.keys(url).find(header.get("kid"))
    if key is None:
        raise refused(
            "unknown_key", "The token is signed by a key that its issuer does not publish."
        )
    return key


def _claims(
    token: str,
    key_of: Callable[[Claims], Any] = lambda _: "",
    *,
    verify: bool = True,
    **checks: Any,
) -> Claims:
    """The claims. Raises BadRequestError (401) for whatever is wrong with the token."""
    import jwt

    try:
        if not verify:
            return jwt.decode(token, options={"verify_signature": False})
        key = key_of(jwt.get_unverified_header(token))
        algorithms = ["HS256"] if isinstance(key, str) else PUBLIC_KEY_ALGORITHMS
        return jwt.decode(token, key, algorithms=algorithms, leeway=LEEWAY_SECONDS, **checks)
    except jwt.MissingRequiredClaimError as error:
        raise refused("missing_claim", f"The token lacks `{error.claim}`.") from None
    except jwt.InvalidTokenError as error:
        code = next((code for kind, code in _codes(jwt) if isinstance(error, kind)), "bad_token")
        raise refused(code, _REFUSALS[code]) from None
    except (ValueError, TypeError, OverflowError, RecursionError):  # no JSON, or not a token's
        raise refused("bad_token", _REFUSALS["bad_token"]) from None


def _codes(jwt: Any) -> tuple[tuple[type[Exception], str], ...]:
    return (
        (jwt.ExpiredSignatureError, "expired"),
        (jwt.ImmatureSignatureError, "not_yet_valid"),
        (jwt.InvalidAudienceError, "wrong_audience"),
        (jwt.InvalidIssuerError, "wrong_issuer"),
        (jwt.InvalidSignatureError, "wrong_signature"),
        (jwt.InvalidAlgorithmError, "wrong_algorithm"),
    )


_REFUSALS = {
    "expired": "The token has expired. Get a new one and call again.",
    "not_yet_valid": "The token is not valid yet. Is the clock of its issuer right?",
    "wrong_audience": "The token is for another audience.",
    "wrong_issuer": "The token is of another issuer.",
    "wrong_signature": "The token's signature is wrong.",
    "wrong_algorithm": "The token is signed by an algorithm that is not taken here.",
    "bad_token": "This is not a JWT that can be read.",
}
