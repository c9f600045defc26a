"""Who calls: users by their Supabase JWT, workers and schedulers by their Google OIDC token, in
`Authorization: Bearer`.

Where neither is configured, IAM stands in front and has asked already. It takes the signature out
of the tokens that it has seen, so OIDC_* is for functions that the world can reach. Behind IAM a
user's JWT stays in Authorization when the caller's own token is in X-Serverless-Authorization."""

from collections.abc import Callable, Mapping
from typing import Any

from functions.core.settings import settings
from functions.errors import BadRequestError, PolicyError

LEEWAY = 10.0
"""Seconds that the clocks of issuer and function may differ."""
PUBLIC = ["ES256", "RS256"]
GOOGLE_KEYS = "https://www.googleapis.com/oauth2/v3/certs"
GOOGLE = ["https://accounts.google.com", "accounts.google.com"]

Claims = Mapping[str, Any]


def user(request: Any) -> str | None:
    """The user whose tasks the caller may touch. None: anybody's (IAM has asked, or it is the
    service role).

    Raises BadRequestError (401 with the reason; 503 when the keys cannot be had).
    """
    if not settings().asks_users:
        return None
    token = _bearer(request)
    role = _read(token, verify=False).get(
        "role"
    )  # of a token that is not verified: it chooses what is asked of it
    if (
        role == "service_role"
    ):  # a backend, for any user; such a token names neither audience nor user
        _read(token, _users_key, options={"require": ["exp"], "verify_aud": False})
        return None
    if role == "anon":
        raise refused(
            "anonymous", "This is the anon key. Send the access token of a user who is signed in."
        )
    claims = _read(
        token,
        _users_key,
        audience=settings().jwt_audience or "authenticated",
        issuer=settings().issuer,
        options={"require": ["exp", "sub", "aud"]},
    )
    if not claims["sub"].strip():
        raise refused("no_subject", "The token names no user: its `sub` is empty.")
    return str(claims["sub"])


def machine(request: Any) -> None:
    """Lets workers and schedulers pass. Raises BadRequestError (401, 403, 503), PolicyError for
    half a configuration."""
    audience, accounts = settings().oidc_audience, settings().oidc_accounts
    if not audience and not accounts:
        return
    if not audience or not accounts:  # anybody at Google can get a token for any audience
        raise PolicyError(
            "Only one of OIDC_AUDIENCE and OIDC_ACCOUNTS is set. Set both, or neither behind IAM."
        )
    claims = _read(
        _bearer(request),
        _googles_key,
        audience=list(audience),
        issuer=GOOGLE,
        options={"require": ["exp", "aud", "iss", "email"]},
    )
    if claims.get("email_verified") is not True or claims["email"] not in accounts:
        raise BadRequestError("This account may not call.", status=403, code="wrong_account")


def refused(code: str, message: str, **challenge: str) -> BadRequestError:
    """A 401 with its reason. RFC 6750 wants it in a header too."""
    said = challenge or {"error": "invalid_token", "error_description": message}
    text = ", ".join(f'{name}="{value}"' for name, value in said.items())
    return BadRequestError(
        message, status=401, code=code, headers={"WWW-Authenticate": f"Bearer {text}"}
    )


def _bearer(request: Any) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise refused("no_token", "Send a token: `Authorization: Bearer ...`.", realm="tasks")
    if token.endswith(".SIGNATURE_REMOVED_BY_GOOGLE"):
        text = "IAM has taken the signature out of this token. Behind IAM, leave OIDC_AUDIENCE and OIDC_ACCOUNTS unset."
        raise refused("signature_removed", text)
    return str(token.strip())


def _users_key(header: Claims) -> Any:
    """By the algorithm that the token names: each has a key of its own kind, so that none can pass
    for another."""
    found = settings()
    if header.get("alg") == "HS256" and found.jwt_secret:
        return found.jwt_secret
    if header.get("alg") in PUBLIC and found.users_keys:
        return _public_key(found.users_keys, header)
    raise refused("wrong_algorithm", "The token is signed by an algorithm that is not taken here.")


def _googles_key(header: Claims) -> Any:
    return _public_key(GOOGLE_KEYS, header)


def _public_key(url: str, header: Claims) -> Any:
    from functions.entry.public_keys import keys

    key = keys(url).find(header.get("kid"))
    if key is None:
        raise refused(
            "unknown_key", "The token is signed by a key that its issuer does not publish."
        )
    return key


def _read(
    token: str, key: Callable[[Claims], Any] = lambda _: "", *, verify: bool = True, **checks: Any
) -> Claims:
    """The claims. Raises BadRequestError (401) for whatever is wrong with the token."""
    import jwt

    try:
        if not verify:
            return jwt.decode(token, options={"verify_signature": False})
        found = key(jwt.get_unverified_header(token))
        return jwt.decode(
            token,
            found,
            algorithms=["HS256"] if isinstance(found, str) else PUBLIC,
            leeway=LEEWAY,
            **checks,
        )
    except jwt.MissingRequiredClaimError as error:
        raise refused("missing_claim", f"The token lacks `{error.claim}`.") from None
    except jwt.InvalidTokenError as error:
        code = next((code for kind, code in _codes(jwt) if isinstance(error, kind)), "bad_token")
        raise refused(code, _SAID[code]) from None
    except (
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
    ):  # what is not JSON, or not like a token's
        raise refused("bad_token", _SAID["bad_token"]) from None


def _codes(jwt: Any) -> tuple[tuple[type[Exception], str], ...]:
    return (
        (jwt.ExpiredSignatureError, "expired"),
        (jwt.ImmatureSignatureError, "not_yet_valid"),
        (jwt.InvalidAudienceError, "wrong_audience"),
        (jwt.InvalidIssuerError, "wrong_issuer"),
        (jwt.InvalidSignatureError, "wrong_signature"),
        (jwt.InvalidAlgorithmError, "wrong_algorithm"),
    )


_SAID = {
    "expired": "The token has expired. Get a new one and call again.",
    "not_yet_valid": "The token is not valid yet. Is the clock of its issuer right?",
    "wrong_audience": "The token is for another audience.",
    "wrong_issuer": "The token is of another issuer.",
    "wrong_signature": "The token's signature is wrong.",
    "wrong_algorithm": "The token is signed by an algorithm that is not taken here.",
    "bad_token": "This is not a JWT that can be read.",
}
