"""Each grant, against a real authorization server."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from support import OidcProvider, browse, needs

import tokenwell
from tokenwell import types


def test_client_credentials_give_a_token_that_the_server_knows(provider: OidcProvider) -> None:
    with tokenwell.open("machine", provider.machine()) as connection:
        token = connection.token()
        assert token.token_type == "Bearer"
        assert provider.is_active(token.access_token)
        assert connection.status().state == "authorized"
        connection.clear()
        assert connection.status().state == "not-authorized"


def test_a_user_authorizes_in_a_real_browser(provider: OidcProvider) -> None:
    needs("browser")
    landed: list[dict[str, object]] = []
    windows = []

    def open_url(url: str) -> None:
        window = threading.Thread(target=lambda: landed.append(browse(url)))
        window.start()
        windows.append(window)

    host = tokenwell.Host(user_agent=tokenwell.Browser(open_url=open_url))
    config = {"issuer": provider.issuer, "client_id": "native", "scope": "openid api:read"}
    with tokenwell.open("shop", config, host=host) as connection:
        status = connection.authorize(timeout=120)
        windows[0].join()
        assert status.state == "authorized"
        assert provider.is_active(connection.token().access_token)
        assert connection.userinfo()["sub"] == "alice"
    (page,) = landed
    assert page["title"] == "Authorized: shop"
    assert page["elsewhere"] == []
    headers = page["headers"]
    assert isinstance(headers, dict)
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]


# The second is the contract's spelling, which was the only one at first.
@pytest.mark.parametrize("prompt", ["select_account", "select-account"])
def test_a_prompt_is_sent_by_its_registered_name(
    provider: OidcProvider, prompt: types.Prompt
) -> None:
    with tokenwell.open("prompting", provider.web()) as connection:
        begun = connection.begin_authorization(prompt=["login", prompt])
    query = parse_qs(urlsplit(begun.authorization_url).query)
    assert query["prompt"] == ["login select_account"]


def test_a_renewal_spends_the_refresh_token_and_keeps_its_successor(
    provider: OidcProvider,
) -> None:
    with tokenwell.open("rotating", provider.web()) as connection:
        provider.authorize(connection)
        provider.forget_requests()
        seen = {connection.token().access_token}
        for _ in range(3):
            seen.add(connection.refresh().access_token)
        assert len(seen) == 4
        spent = [one["form"]["refresh_token"] for one in provider.requests("/token")]
        assert len(set(spent)) == 3
        assert provider.is_active(connection.token().access_token)


def test_a_device_is_authorized_with_the_code_that_it_shows(provider: OidcProvider) -> None:
    shown: list[tokenwell.DeviceAuthorization] = []

    def show(device: tokenwell.DeviceAuthorization) -> None:
        shown.append(device)
        assert device.verification_uri_complete is not None
        provider.decide_for_device(device.verification_uri_complete)

    host = tokenwell.Host(user_agent=tokenwell.Browser(show_device_code=show))
    config = {
        "issuer": provider.issuer,
        "client_id": "device",
        "grant_type": "device_code",
        "scope": "openid api:read",
    }
    with tokenwell.open("tv", config, host=host) as connection:
        assert connection.authorize(device=True, timeout=120).state == "authorized"
        assert provider.is_active(connection.token().access_token)
    assert shown[0].user_code


def test_a_device_can_be_polled_for_by_hand(provider: OidcProvider) -> None:
    config = {
        "issuer": provider.issuer,
        "client_id": "device",
        "grant_type": "device_code",
        "scope": "openid api:read",
    }
    with tokenwell.open("tv-by-hand", config) as connection:
        begun = connection.begin_device_authorization()
        pending = connection.poll_device_authorization()
        assert isinstance(pending, tokenwell.Pending)
        assert 0 < pending.poll_after_seconds <= begun.interval_seconds + 5


# A key in PEM does not say that it is for PS256.
@pytest.mark.parametrize(
    ("algorithm", "form"),
    [(one, "jwk") for one in ("RS256", "PS256", "ES256", "EdDSA")]
    + [(one, "pem") for one in ("RS256", "ES256", "EdDSA")],
)
def test_the_client_signs_with_its_private_key(
    provider: OidcProvider, tmp_path: Path, algorithm: str, form: str
) -> None:
    key = provider.keys[algorithm][form]
    (tmp_path / "key").write_text(key if isinstance(key, str) else json.dumps(key))
    config = provider.machine(
        client_id=f"jwt-{algorithm.lower()}",
        token_endpoint_auth_method="private_key_jwt",
        signing_key={"ref": "file:key"},
    )
    del config["client_secret"]
    with tokenwell.open("signing", config, directory=tmp_path) as connection:
        assert provider.is_active(connection.token().access_token)


def test_an_id_token_is_checked_with_the_servers_key(provider: OidcProvider) -> None:
    with tokenwell.open("identity", provider.web()) as connection:
        provider.authorize(connection)
        assert connection.response()["id_token"].count(".") == 2


def test_a_revoked_credential_is_gone_on_both_sides(provider: OidcProvider) -> None:
    with tokenwell.open("revoking", provider.web()) as connection:
        provider.authorize(connection)
        token = connection.token().access_token
        connection.revoke()
        assert not provider.is_active(token)
        with pytest.raises(tokenwell.NotAuthorizedError):
            connection.token()
