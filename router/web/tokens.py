"""Who is calling: signed tokens that name a brand and a guide, and if they like where the guide works."""

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
#: Markets are text for people.
_MARKET_MAX = 200
_REQUIRED = ("sub", "brand", "aud", "iss", "exp", "nbf")


class TokenError(Exception):
    """A token that is not ours, or not valid now; the reason is nobody's business but the log's."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A guide of a brand, until the token expires (epoch seconds).

    ``store_id`` and ``market`` say whose open pool the guide is shown; '' for a token that does not tell.
    """

    brand: str
    guide_id: str
    expires_s: int
    store_id: str = ""
    market: str = ""


def sign(  # noqa: PLR0913 - what a token says
    secrets: tuple[str, ...],
    brand: str,
    guide_id: str,
    now_s: int,
    life_s: int,
    *,
    store_id: str = "",
    market: str = "",
) -> str:
    """A token for a guide, valid from now on for so many seconds, signed with the first secret."""
    claims = {
        "sub": guide_id,
        "brand": brand,
        "aud": AUDIENCE,
        "iss": ISSUER,
        "nbf": now_s,
        "exp": now_s + life_s,
    } | ({"store": store_id, "market": market} if store_id else {})
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
    store_id, market = claims.get("store", ""), claims.get("market", "")
    if not (isinstance(market, str) and isinstance(store_id, str)) or len(market) > _MARKET_MAX:
        raise TokenError("store or market is no text")
    if store_id and not re.match(ID_PATTERN, store_id):
        raise TokenError("store is no id")
    return Caller(brand, guide_id, expires_s, store_id, market)
