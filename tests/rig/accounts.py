"""Users of Label Studio, who sign up as people do."""

from __future__ import annotations

import re

import requests


def sign_up(url: str, email: str, password: str) -> str:
    """A new user of the Label Studio at ``url``; their legacy token. Raises requests.RequestException if it is refused,
    ValueError if there is no form."""
    with requests.Session() as session:
        session.trust_env = False
        page = f"{url}/user/signup/"
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', session.get(page, timeout=120).text)
        if found is None:
            raise ValueError("the page for signing up has no form")
        form = {"csrfmiddlewaretoken": found[1], "email": email, "password": password, "allow_newsletters": "false"}
        # a browser says where the form came from; a proxy that hides the address would make that wrong
        said = {"Origin": url, "Referer": page}
        session.post(page, data=form, headers=said, timeout=120).raise_for_status()
        answer = session.get(f"{url}/api/current-user/token", timeout=120)
        answer.raise_for_status()
        return str(answer.json()["token"])
