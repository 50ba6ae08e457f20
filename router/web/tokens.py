"""Who is calling: signed tokens that name a brand and a guide, and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import jwt

from topics.fields import ID_PATTERN

ISSUER = "lead-router"
AUDIENCE = "lead-router-gateway"
#: The only algorithm that is accepted, whatever a token says of itself.
ALGORITHM = "HS256"
#: A token cannot be called back, so none may live longer than a day.
LIFE_S_MAX = 24 * 3600
#: How far the clock of whoever signs may be ahead of ours.
_LEEWAY_S = 5
_REQUIRED = ("sub", "brand", "aud", "iss", "exp", "nbf")


class TokenError(Exception):
    """A token that is not ours, or not valid now; the reason is nobody's business but the log's."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A guide of a brand, until the token expires."""

    brand: str
    guide_id: str
    expires_s: int
    """Epoch seconds."""


def sign(secrets: tuple[str, ...], brand: str, guide_id: str, now_s: int, life_s: int) -> str:
    """A token for a guide, valid from now on for so many seconds, signed with the first secret."""
    claims = {
        "sub": guide_id,
        "brand": brand,
        "aud": AUDIENCE,
        "iss": ISSUER,
        "nbf": now_s,
        "exp": now_s + life_s,
    }
    return jwt.encode(claims, secrets[0], ALGORITHM)


def verify(secrets: tuple[str, ...], token: str) -> Caller:
    """Who a token names, now; any of the secrets may have signed it.

    Raises:
        TokenError: it is not valid.

    """
    reason: Exception | None = None
    for secret in secrets:
        try:
            claims = jwt.decode(
                token,
                secret,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=_LEEWAY_S,
                options={"require": list(_REQUIRED)},
            )
        except jwt.InvalidSignatureError as error:
            reason = error  # another secret may have signed it
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise TokenError(type(error).__name__) from None
        else:
            return _caller(claims)
    raise TokenError(type(reason).__name__)


def _caller(claims: dict[str, Any]) -> Caller:
    brand, guide_id, expires_s = claims["brand"], claims["sub"], int(claims["exp"])
    # both become parts of keys
    if not all(isinstance(name, str) and re.match(ID_PATTERN, name) for name in (brand, guide_id)):
        raise TokenError("brand or sub is no id")
    if expires_s - int(claims["nbf"]) > LIFE_S_MAX:
        raise TokenError("lives too long")
    return Caller(brand, guide_id, expires_s)
