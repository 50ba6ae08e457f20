"""Who is calling: only what was signed here, for us, for now, by a secret that is in use."""

from __future__ import annotations

import time

import jwt
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from router.cli import main
from router.config import SECRET_BYTES_MIN, Settings
from router.errors import ConfigError
from router.web.tokens import ALGORITHM, AUDIENCE, ISSUER, LIFE_S_MAX, Caller, TokenError, sign, verify

OLD, NEW = "o" * SECRET_BYTES_MIN, "n" * SECRET_BYTES_MIN
NOW_S = int(time.time())
EVERYWHERE = "0.0.0.0"  # noqa: S104 - to be refused
CLAIMS = {"sub": "g", "brand": "b", "aud": AUDIENCE, "iss": ISSUER, "nbf": NOW_S - 60, "exp": NOW_S + 36_000}


def signed(secret=NEW, algorithm=ALGORITHM, **claims):
    kept = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    return jwt.encode(kept, secret, algorithm)


def test_t04_a_token_names_its_guide_until_it_expires():
    token = sign((NEW, OLD), "b", "g", NOW_S, 36_000)
    assert verify((NEW,), token) == Caller("b", "g", NOW_S + 36_000)


def test_a_token_may_tell_where_its_guide_works():
    token = sign((NEW,), "b", "g", NOW_S, 36_000, store_id="s", market="上海")
    assert verify((NEW,), token) == Caller("b", "g", NOW_S + 36_000, "s", "上海")


def test_t04_the_secret_before_verifies_while_both_are_in_use():
    token = sign((OLD,), "b", "g", NOW_S, 36_000)
    assert verify((NEW, OLD), token).guide_id == "g"
    with pytest.raises(TokenError):
        verify((NEW,), token)


@pytest.mark.parametrize(
    "token",
    [
        *("", "x", "a.b.c", "é.é.é", signed()[:-2], "Bearer " + signed()),
        signed("another-secret-that-is-long-enough"),
        *(signed(aud="another"), signed(iss="another"), signed(aud=None), signed(iss=None)),
        *(signed(exp=NOW_S - 60), signed(nbf=NOW_S + 9_000), signed(exp=None), signed(nbf=None)),
        *(signed(sub=None), signed(brand=None), signed(brand=["b"]), signed(exp="soon")),
        *(
            signed(sub="g}:feed:{h"),
            signed(brand="b/x"),
            signed(sub="g\n"),
            signed(sub="g" * 65),
            signed(sub=""),
        ),
        *(signed(store="s/x"), signed(store=1), signed(market=1), signed(market="m" * 201)),
        signed(exp=NOW_S + LIFE_S_MAX + 60),
        signed(secret="", algorithm="none"),
        signed(NEW * 2, "HS512"),
    ],
)
def test_t04_nothing_else_names_anybody(token):
    with pytest.raises(TokenError):
        verify((NEW,), token)


@given(st.data())
def test_t04_a_changed_token_names_nobody(data):
    token = signed()
    place = data.draw(st.integers(0, len(token) - 1).filter(lambda place: token[place] != "."))
    # the last character of each part may hold bits that mean nothing
    ends = {index - 1 for index, letter in enumerate(token + ".") if letter == "."}
    other = data.draw(st.sampled_from("AZaz09-_").filter(lambda letter: letter != token[place]))
    changed = token[:place] + other + token[place + 1 :]
    if place not in ends:
        with pytest.raises(TokenError):
            verify((NEW,), changed)


# --- secrets -----------------------------------------------------------------------------------------------


def test_t15_secrets_are_read_and_never_shown(tmp_path):
    settings = Settings.from_env({"LEAD_ROUTER_GATEWAY_SECRET": f"{NEW},{OLD}"})
    assert settings.gateway_secret == (NEW, OLD)
    assert NEW not in repr(settings)
    path = tmp_path / "secret"
    path.write_text(f"{NEW}\n")
    assert Settings.from_env({"LEAD_ROUTER_GATEWAY_SECRET_FILE": str(path)}).gateway_secret == (NEW,)


@pytest.mark.parametrize("text", ["short", f"{NEW},", f"{NEW},{'x' * (SECRET_BYTES_MIN - 1)}"])
def test_t15_a_short_secret_is_refused_without_being_shown(text):
    with pytest.raises(ConfigError, match="32 bytes") as refused:
        Settings.from_env({"LEAD_ROUTER_GATEWAY_SECRET": text})
    assert text not in str(refused.value)


def test_t15_a_file_and_a_variable_are_one_too_many(tmp_path):
    both = {"LEAD_ROUTER_GATEWAY_SECRET": NEW, "LEAD_ROUTER_GATEWAY_SECRET_FILE": str(tmp_path)}
    with pytest.raises(ConfigError, match="both set"):
        Settings.from_env(both)
    with pytest.raises(ConfigError, match="cannot be read"):
        Settings.from_env({"LEAD_ROUTER_GATEWAY_SECRET_FILE": str(tmp_path)})


# --- the command line --------------------------------------------------------------------------------------


def run(*arguments, **env):
    given_env = {"LEAD_ROUTER_KAFKA_URL": "", "LEAD_ROUTER_REDIS_URL": "", "LEAD_ROUTER_GATEWAY_SECRET": ""}
    named = {f"LEAD_ROUTER_{name.upper()}": value for name, value in env.items()}
    return CliRunner().invoke(main, arguments, env=given_env | named)


def test_the_command_prints_a_token_that_the_gateway_takes():
    printed = run("token", "g", "--brand", "b", "--minutes", "5", gateway_secret=NEW)
    caller = verify((NEW,), printed.output.strip())
    assert (caller.brand, caller.guide_id) == ("b", "g")
    assert 200 < caller.expires_s - time.time() <= 300
    assert run("token", "g").exit_code == 2
    assert "is no id" in run("token", "{g}", gateway_secret=NEW).output


def test_t03_the_gateway_refuses_to_be_reached_from_elsewhere_without_tls():
    refused = run("gateway", gateway_secret=NEW, gateway_host=EVERYWHERE)
    assert (refused.exit_code, "--insecure" in refused.output) == (2, True)
    # it gets further, to what is missing next
    for arguments, host in (
        (("gateway", "--insecure"), EVERYWHERE),
        (("gateway",), "127.0.0.1"),
        (("gateway",), "::1"),
    ):
        let = run(*arguments, gateway_secret=NEW, gateway_host=host)
        assert (let.exit_code, "LEAD_ROUTER_KAFKA_URL is not set" in let.output) == (2, True)


def test_the_gateway_asks_for_a_secret_and_says_how_to_make_one():
    assert "openssl rand" in run("gateway").output
