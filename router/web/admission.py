"""Who may come in: the one place that reads a token, and what is asked of a request that changes things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from router.web.reading import Guide
from router.web.tokens import Caller, TokenError, verify

#: A guide's requests that change or open something: so many at once, then so many a second.
BURST, RATE_PER_S = 20.0, 2.0
#: Guides that are remembered; more, and those who have been quiet are forgotten.
_GUIDES_MAX = 20_000

#: The page shows text from outside; none of it can become a script, and no other site can frame it.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def caller_of(request: web.Request, secrets: tuple[str, ...]) -> Caller:
    """Who the token names, from ``Authorization: Bearer`` or the session's cookie; never from anything else.

    Raises:
        HTTPUnauthorized: there is no valid token.

    """
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() != "bearer":
        token = request.cookies.get(cookie_name(request), "")
    try:
        return verify(secrets, token)
    except TokenError:
        raise web.HTTPUnauthorized(headers={hdrs.WWW_AUTHENTICATE: "Bearer"}) from None


def on_loopback(request: web.Request) -> bool:
    """Whether the browser reached us at an address of its own machine."""
    try:
        host = urlsplit(f"//{request.host}").hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def cookie_name(request: web.Request) -> str:
    """The session's cookie; off loopback the browser itself holds it to this host, to ``/`` and to TLS."""
    return "lead-router" if on_loopback(request) else "__Host-lead-router"


def refuse_other_sites(request: web.Request) -> None:
    """Refuse what another site made a browser send, and a change that a plain form could have sent.

    Raises:
        HTTPForbidden: it comes from elsewhere, or without what only our own page and tools send.
        HTTPUnsupportedMediaType: its body is not JSON.

    """
    own = {f"http://{request.host}", f"https://{request.host}"}
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        raise web.HTTPForbidden
    if request.headers.get(hdrs.ORIGIN, f"https://{request.host}") not in own:
        raise web.HTTPForbidden
    if request.method == hdrs.METH_GET:
        return
    if request.headers.get("X-Lead-Router") != "1":
        raise web.HTTPForbidden
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType


@dataclass(slots=True)
class Allowance:
    """A token bucket for each guide."""

    _left: dict[Guide, tuple[float, float]] = field(default_factory=dict)

    def take(self, guide: Guide, now_s: float) -> bool:
        """Whether a guide may do one more thing now, seconds on any clock that never goes back."""
        left, at_s = self._left.pop(guide, (BURST, now_s))
        left = min(BURST, left + (now_s - at_s) * RATE_PER_S)
        if len(self._left) >= _GUIDES_MAX:
            self._left = _recent(self._left, now_s)
        self._left[guide] = (max(left - 1, 0) if left >= 1 else left, now_s)
        return left >= 1


def _recent(left: Mapping[Guide, tuple[float, float]], now_s: float) -> dict[Guide, tuple[float, float]]:
    """Those whose bucket is not full again by now."""
    return {guide: held for guide, held in left.items() if held[0] + (now_s - held[1]) * RATE_PER_S < BURST}
