"""Authlib as the second authorization server of the tests, on a free port of
127.0.0.1. What is decided by the protocol Authlib decides; here are its clients,
what it stores, and the one grant that it lacks, token exchange.

When it is ready it prints one line, {"issuer": …, "keys": {…}}: where it is, and
the private keys of the clients that sign, made for this run. It ends when its
standard input closes, so that it cannot outlive its test.

GET /_test/requests tells what clients sent and what they were answered.
Its metadata is where RFC 8414 puts it, and nowhere else.
"""

import json
import os
import secrets
import sys
import threading
import time

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import (
    BaseGrant,
    ClientMixin,
    InvalidRequestError,
    TokenEndpointMixin,
    UnauthorizedClientError,
    grants,
)
from authlib.oauth2.rfc6749.util import list_to_scope, scope_to_list
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7523 import JWTBearerGrant
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from authlib.oauth2.rfc8628 import (
    DEVICE_CODE_GRANT_TYPE,
    DeviceAuthorizationEndpoint,
    DeviceCodeGrant,
)
from authlib.oauth2.rfc9207 import IssuerParameter
from flask import Flask, jsonify, request
from joserfc.jwk import ECKey, RSAKey
from werkzeug.serving import make_server

DEVICE_INTERVAL = 1
SLOW_DOWN = 5  # RFC 8628 section 3.5
# A poll counts as too early only where it comes earlier than a client that waits
# as it was told can send it, on a machine however busy.
GRACE = 3
JWT_BEARER = JWTBearerGrant.GRANT_TYPE
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
PASSWORDS = {"alice": "wonderland"}

# A key pair for each algorithm that an assertion is signed by.
signing = {"ES256": ECKey.generate_key("P-256"), "RS256": RSAKey.generate_key(2048)}


class Client(ClientMixin):
    def __init__(self, client_id, secret, method, grant_types, key=None):
        self.client_id = client_id
        self.secret = secret
        self.method = method
        self.grant_types = grant_types
        self.key = key

    def get_client_id(self):
        return self.client_id

    def get_default_redirect_uri(self):
        return "https://client.example/oauth2"

    def get_allowed_scope(self, scope):
        wanted = scope_to_list(scope) or ["read"]
        return list_to_scope([name for name in wanted if name in ("read", "write")])

    def check_redirect_uri(self, redirect_uri):
        return redirect_uri == self.get_default_redirect_uri()

    def check_client_secret(self, secret):
        return secrets.compare_digest(self.secret, secret)

    def check_endpoint_auth_method(self, method, endpoint):
        return method == self.method

    def check_response_type(self, response_type):
        return response_type == "code"

    def check_grant_type(self, grant_type):
        return grant_type in self.grant_types


BASIC = "client_secret_basic"
clients = {
    client.client_id: client
    for client in (
        Client("web", "web-secret-5a1c", BASIC, ("authorization_code", "refresh_token")),
        Client("legacy", "legacy-secret-20f7", BASIC, ("password", "refresh_token")),
        Client("tv", "", "none", (DEVICE_CODE_GRANT_TYPE, "refresh_token")),
        Client("gateway", "gateway-secret-b83e", BASIC, (TOKEN_EXCHANGE,)),
        *(
            Client(f"robot-{algorithm.lower()}", "", "none", (JWT_BEARER,), key)
            for algorithm, key in signing.items()
        ),
    )
}


class User:
    def __init__(self, name):
        self.name = name

    def get_user_id(self):
        return self.name


class Token(dict):
    def check_client(self, client):
        return self["client_id"] == client.client_id

    def get_scope(self):
        return self["scope"]

    def get_expires_in(self):
        return self["expires_in"]

    def is_expired(self):
        return time.time() >= self["issued_at"] + self["expires_in"]

    def is_revoked(self):
        return self["revoked"]

    def get_user(self):
        return User(self["user"])

    def get_client(self):
        return clients[self["client_id"]]


class Code(dict):
    def get_redirect_uri(self):
        return self["redirect_uri"]

    def get_scope(self):
        return self["scope"]


class DeviceCode(dict):
    def get_client_id(self):
        return self["client_id"]

    def get_scope(self):
        return self["scope"]

    def get_user_code(self):
        return self["user_code"]

    def is_expired(self):
        return time.monotonic() >= self["expires_at"]


tokens = []
codes = {}
device_codes = {}
# By user code: the user, and whether he consented.
decisions = {}
requests = []

app = Flask(__name__)
app.config["OAUTH2_REFRESH_TOKEN_GENERATOR"] = True
app.config["OAUTH2_SCOPES_SUPPORTED"] = ["read", "write"]


def save_token(token, asked):
    stored = Token(token, client_id=asked.client.client_id, issued_at=time.time(), revoked=False)
    stored["user"] = asked.user.name
    tokens.append(stored)


def token_by(*names, value):
    return next((token for token in tokens if value in map(token.get, names)), None)


server = AuthorizationServer(app, clients.get, save_token)


class AuthorizationCode(grants.AuthorizationCodeGrant):
    def save_authorization_code(self, code, asked):
        codes[code] = Code(
            code=code,
            client_id=asked.client.client_id,
            redirect_uri=asked.payload.redirect_uri,
            scope=asked.payload.scope,
            user=asked.user.name,
            challenge=asked.payload.data["code_challenge"],
            method=asked.payload.data["code_challenge_method"],
        )

    def query_authorization_code(self, code, client):
        found = codes.get(code)
        return found if found and found["client_id"] == client.client_id else None

    def delete_authorization_code(self, code):
        del codes[code["code"]]

    def authenticate_user(self, code):
        return User(code["user"])


class Pkce(CodeChallenge):
    SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]

    def get_authorization_code_challenge(self, code):
        return code["challenge"]

    def get_authorization_code_challenge_method(self, code):
        return code["method"]


class RefreshToken(grants.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = [BASIC, "none"]
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token):
        token = token_by("refresh_token", value=refresh_token)
        return token if token and not token.is_revoked() else None

    def authenticate_user(self, token):
        return token.get_user()

    def revoke_old_credential(self, token):
        token["revoked"] = True


class Password(grants.ResourceOwnerPasswordCredentialsGrant):
    def authenticate_user(self, username, password):
        return User(username) if PASSWORDS.get(username) == password else None


class JwtBearer(JWTBearerGrant):
    def get_audiences(self):
        return [issuer, f"{issuer}/token"]

    def resolve_issuer_client(self, name):
        return clients.get(name)

    def resolve_client_public_key(self, client):
        return client.key

    def authenticate_user(self, subject):
        return User(subject) if subject in PASSWORDS else None

    def has_granted_permission(self, client, user):
        return True


class DeviceAuthorization(DeviceAuthorizationEndpoint):
    CLIENT_AUTH_METHODS = ["none"]
    INTERVAL = DEVICE_INTERVAL

    def get_verification_uri(self):
        return f"{issuer}/device"

    def save_device_credential(self, client_id, scope, data):
        device_codes[data["device_code"]] = DeviceCode(
            data,
            client_id=client_id,
            scope=scope,
            expires_at=time.monotonic() + data["expires_in"],
            interval=DEVICE_INTERVAL,
            polled_at=None,
        )


class Device(DeviceCodeGrant):
    def query_device_credential(self, device_code):
        return device_codes.get(device_code)

    def query_user_grant(self, user_code):
        name, consented = decisions.get(user_code, (None, False))
        return name and (User(name), consented)

    def should_slow_down(self, device_code):
        # The first poll is one too many, as if the server were busy, and from then
        # on each that does not wait the longer.
        now, before = time.monotonic(), device_code["polled_at"]
        device_code["polled_at"] = now
        if before is None or now - before < device_code["interval"] - GRACE:
            device_code["interval"] += SLOW_DOWN
            return True
        return False


class TokenExchange(BaseGrant, TokenEndpointMixin):
    """RFC 8693, which Authlib lacks: an access token of this server's for one of no
    more scope, and as the actor's where there is one."""

    GRANT_TYPE = TOKEN_EXCHANGE

    def token_in(self, name):
        form = self.request.form
        if form.get(f"{name}_type") != ACCESS_TOKEN:
            raise InvalidRequestError(f"{name}_type is not an access token's")
        token = token_by("access_token", value=form.get(name))
        if token is None or token.is_revoked() or token.is_expired():
            raise InvalidRequestError(f"{name} is not good")
        return token

    def validate_token_request(self):
        client = self.authenticate_token_endpoint_client()
        if not client.check_grant_type(self.GRANT_TYPE):
            raise UnauthorizedClientError()
        subject = self.token_in("subject_token")
        if self.request.form.get("actor_token"):
            self.token_in("actor_token")
        elif self.request.form.get("actor_token_type"):
            raise InvalidRequestError("actor_token_type without actor_token")
        had = scope_to_list(subject["scope"])
        wanted = scope_to_list(self.request.form.get("scope")) or had
        self.request.client = client
        self.request.user = subject.get_user()
        self.scope = list_to_scope([name for name in wanted if name in had])

    def create_token_response(self):
        token = self.generate_token(
            scope=self.scope, user=self.request.user, include_refresh_token=False
        )
        self.save_token(token)
        return 200, token | {"issued_token_type": ACCESS_TOKEN}, self.TOKEN_RESPONSE_HEADER


class Revocation(RevocationEndpoint):
    CLIENT_AUTH_METHODS = [BASIC, "none"]

    def query_token(self, value, hint):
        return token_by("access_token", "refresh_token", value=value)

    def revoke_token(self, token, asked):
        token["revoked"] = True


class Introspection(IntrospectionEndpoint):
    CLIENT_AUTH_METHODS = [BASIC]

    def query_token(self, value, hint):
        return token_by("access_token", "refresh_token", value=value)

    def check_permission(self, token, client, asked):
        return True

    def introspect_token(self, token):
        return {
            "active": True,
            "client_id": token["client_id"],
            "sub": token["user"],
            "scope": token["scope"],
            "exp": int(token["issued_at"] + token["expires_in"]),
            "iss": issuer,
        }


class Issuer(IssuerParameter):
    def get_issuer(self):
        return issuer


server.register_grant(AuthorizationCode, [Pkce(required=True)])
for grant in (RefreshToken, Password, JwtBearer, Device, TokenExchange):
    server.register_grant(grant)
for endpoint in (DeviceAuthorization, Revocation, Introspection):
    server.register_endpoint(endpoint)
server.register_extension(Issuer())


@app.after_request
def record(response):
    if not request.path.startswith("/_test/"):
        requests.append(
            {
                "method": request.method,
                "path": request.path,
                "headers": {name.lower(): value for name, value in request.headers},
                "form": request.form.to_dict(),
                "status": response.status_code,
                "response": response.get_json(silent=True),
            }
        )
    return response


@app.get("/_test/requests")
def requests_so_far():
    return jsonify(requests)


@app.get("/.well-known/oauth-authorization-server")
def metadata():
    return jsonify(
        issuer=issuer,
        authorization_endpoint=f"{issuer}/authorize",
        token_endpoint=f"{issuer}/token",
        revocation_endpoint=f"{issuer}/revoke",
        introspection_endpoint=f"{issuer}/introspect",
        device_authorization_endpoint=f"{issuer}/device_authorization",
        response_types_supported=["code"],
        grant_types_supported=[
            "authorization_code",
            "refresh_token",
            "password",
            JWT_BEARER,
            DEVICE_CODE_GRANT_TYPE,
            TOKEN_EXCHANGE,
        ],
        token_endpoint_auth_methods_supported=[BASIC, "none"],
        code_challenge_methods_supported=["S256"],
        authorization_response_iss_parameter_supported=True,
    )


@app.post("/authorize")
def authorize():
    """The user's decision; there is no page to look at."""
    user = User(request.form["user"])
    try:
        grant = server.get_consent_grant(end_user=user)
    except OAuth2Error as error:
        return server.handle_error_response(request, error)
    consented = request.form["consent"] == "yes"
    return server.create_authorization_response(grant_user=user if consented else None, grant=grant)


@app.post("/device")
def device():
    """The user's decision on the device that shows that code."""
    decisions[request.form["user_code"]] = (request.form["user"], request.form["consent"] == "yes")
    return "", 204


@app.post("/device_authorization")
def device_authorization():
    return server.create_endpoint_response(DeviceAuthorization.ENDPOINT_NAME)


@app.post("/token")
def token():
    return server.create_token_response()


@app.post("/revoke")
def revoke():
    return server.create_endpoint_response(Revocation.ENDPOINT_NAME)


@app.post("/introspect")
def introspect():
    return server.create_endpoint_response(Introspection.ENDPOINT_NAME)


def end_with_input():
    sys.stdin.buffer.read()
    os._exit(0)


# Plain http will do on the loopback interface.
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
# The issuer has the port in its name: listen first.
listening = make_server("127.0.0.1", 0, app, threaded=True)
issuer = f"http://127.0.0.1:{listening.server_port}"
keys = {
    algorithm: {
        "pem": key.as_pem(private=True).decode(),
        "jwk": key.as_dict(private=True) | {"kid": key.thumbprint(), "alg": algorithm},
    }
    for algorithm, key in signing.items()
}
threading.Thread(target=end_with_input, daemon=True).start()
print(json.dumps({"issuer": issuer, "keys": keys}), flush=True)
listening.serve_forever()
