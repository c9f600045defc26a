"""Supabase and Google as issuers of tokens: our own keys, published where theirs are."""

import time
from typing import Any

import jwt
import responses
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from functions.entry.auth import GOOGLE_KEYS

SUPABASE = "https://ref.supabase.co"
USERS_KEYS = f"{SUPABASE}/auth/v1/.well-known/jwks.json"
SECRET = "a secret of the project, long enough for HS256, and for HS512 as well"
AUDIENCE = "https://worker.example.run.app"
ACCOUNT = "invoker@project.iam.gserviceaccount.com"

EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
STRANGER = ec.generate_private_key(ec.SECP256R1())


def published(kid: str, key: Any) -> dict[str, Any]:
    to_jwk = (
        ECAlgorithm.to_jwk if isinstance(key, ec.EllipticCurvePrivateKey) else RSAAlgorithm.to_jwk
    )
    return to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"}


def publish(mocked: responses.RequestsMock) -> None:
    mocked.get(USERS_KEYS, json={"keys": [published("ec", EC), published("rsa", RSA)]})
    mocked.get(GOOGLE_KEYS, json={"keys": [published("google", RSA)]})


def token(
    claims: dict[str, Any],
    key: Any = SECRET,
    alg: str = "HS256",
    kid: str | None = None,
    **header: Any,
) -> str:
    """None among the claims: it is left out."""
    named = {"kid": kid} if kid else {}
    return jwt.encode(
        {name: one for name, one in claims.items() if one is not None}, key, alg, named | header
    )


def user(
    sub: str | None = "ann",
    key: Any = SECRET,
    alg: str = "HS256",
    kid: str | None = None,
    **claims: Any,
) -> str:
    now = int(time.time())
    usual = {
        "sub": sub,
        "role": "authenticated",
        "aud": "authenticated",
        "iss": f"{SUPABASE}/auth/v1",
        "iat": now,
        "exp": now + 3600,
    }
    return token(usual | claims, key, alg, kid)


def google(key: Any = RSA, alg: str = "RS256", kid: str | None = "google", **claims: Any) -> str:
    now = int(time.time())
    usual = {
        "sub": "1",
        "aud": AUDIENCE,
        "iss": "https://accounts.google.com",
        "email": ACCOUNT,
        "email_verified": True,
        "iat": now,
        "exp": now + 3600,
    }
    return token(usual | claims, key, alg, kid)


def bearer(text: str | None) -> dict[str, str]:
    return {} if text is None else {"Authorization": f"Bearer {text}"}
