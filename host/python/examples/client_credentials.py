import os

import httpx
import tokenwell
import tokenwell.httpx

config = {
    "issuer": os.environ["ISSUER"],
    "grant_type": "client_credentials",
    "client_id": os.environ["CLIENT_ID"],
    "client_secret": {"ref": "env:CLIENT_SECRET"},
}
with tokenwell.open("crm", config, directory="connections") as connection:
    token = connection.token()  # as often as you like: it is fresh
    print(f"a {token.token_type} token, fresh until {token.fresh_until}")
    with httpx.Client(auth=tokenwell.httpx.TokenAuth(connection)) as client:
        print("HTTP", client.get(f"{os.environ['ISSUER']}/me").status_code)
