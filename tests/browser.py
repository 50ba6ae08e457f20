"""A real browser for the page: Debian's Chromium, driven over its own protocol."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager

from playwright.async_api import async_playwright

from tests.parts import MissingPartError

PHONE = {"width": 390, "height": 844}
_QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium():
    """The browser on PATH."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        raise MissingPartError("no Chromium (chromium) to show the page in")
    return found


def blocked(text):
    """Whether the browser says that the page's own policy forbids something."""
    return "Content Security Policy" in text


@asynccontextmanager
async def phone(**context):
    """A page on a phone, with whatever its scripts complained of."""
    binary = chromium()
    async with async_playwright() as tools:
        browser = await tools.chromium.launch(executable_path=binary, args=list(_QUIET))
        try:
            opened = await browser.new_context(viewport=PHONE, device_scale_factor=2, **context)
            page = await opened.new_page()
            page.set_default_timeout(15_000)
            page.complaints = []
            page.on("pageerror", lambda error: page.complaints.append(str(error)))
            page.on("console", lambda line: blocked(line.text) and page.complaints.append(line.text))
            page.on("dialog", lambda dialog: page.complaints.append(f"dialog {dialog.message}"))
            yield page
        finally:
            await browser.close()
