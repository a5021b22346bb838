# SPDX-License-Identifier: Apache-2.0

"""Calls WeChat as people write it by hand: caller.py requests | http.client.

Standard input has one step a line, its words separated by tabs. Each is
answered by one line: ok or error, a tab, and what the caller has to say.
"""

import http.client
import json
import os
import sys
import uuid
from urllib.parse import urlencode, urlsplit

import requests


class Requests:
    """requests, with a session that keeps its connections."""

    def __init__(self):
        self.session = requests.Session()

    def ask(self, method, url, text=None, form=None, file=None):
        if file:
            with open(file, "rb") as opened:
                return self.session.request(method, url, files={"media": opened}).content
        if text is not None:  # json= of requests would escape Chinese, and WeChat shows the escapes
            return self.session.request(method, url, data=text.encode(), headers={"Content-Type": "application/json"}).content
        return self.session.request(method, url, data=form).content


class HTTPClient:
    """http.client: writes the whole request, and only then reads the answer."""

    def ask(self, method, url, text=None, form=None, file=None):
        body, headers = None, {}
        if file:
            boundary = uuid.uuid4().hex
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="media"; filename="{os.path.basename(file)}"\r\nContent-Type: image/jpeg\r\n\r\n'
            with open(file, "rb") as opened:
                body = head.encode() + opened.read() + f"\r\n--{boundary}--\r\n".encode()
            headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
        elif text is not None:
            body, headers["Content-Type"] = text.encode(), "application/json"
        elif form is not None:
            body, headers["Content-Type"] = urlencode(form), "application/x-www-form-urlencoded"
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc)
        try:
            connection.request(method, f"{parts.path}?{parts.query}", body, headers)
            return connection.getresponse().read()
        finally:
            connection.close()


class Caller:
    def __init__(self, http):
        self.http = http
        self.held = ""

    def start(self, url, appid, secret):
        self.url, self.appid, self.secret = url, appid, secret

    def hold(self, token):
        self.held = token

    def token(self):
        if not self.held:
            query = urlencode({"grant_type": "client_credential", "appid": self.appid, "secret": self.secret})
            self.held = checked(self.http.ask("GET", f"{self.url}/cgi-bin/token?{query}"))["access_token"]
        return self.held

    def call(self, method, path, **body):
        """Makes a call, and once more with another token if WeChat wants one."""
        for last in (False, True):
            mark = "&" if "?" in path else "?"
            answer = self.http.ask(method, f"{self.url}{path}{mark}access_token={self.token()}", **body)
            if errcode(answer) not in (40001, 40014, 42001) or last:
                return answer
            self.held = ""

    def get(self):
        return json.dumps(checked(self.call("GET", "/cgi-bin/user/get")))

    def send(self, text):
        message = {"touser": "o-follower", "msgtype": "text", "text": {"content": text}}
        checked(self.call("POST", "/cgi-bin/message/custom/send", text=json.dumps(message, ensure_ascii=False)))

    def upload(self, path, file):
        return checked(self.call("POST", f"{path}?type=image", file=file))["media_id"]

    def download(self, media_id, file):
        content = self.call("GET", f"/cgi-bin/media/get?media_id={media_id}")
        if errcode(content):
            checked(content)
        with open(file, "wb") as opened:
            opened.write(content)

    def login(self, how, path, name, code):
        given = {"appid": self.appid, "secret": self.secret, name: code, "grant_type": "authorization_code"}
        url = self.url + path
        query = f"{url}?{urlencode(given)}"
        answer = {
            "query": lambda: self.http.ask("GET", query),
            "form": lambda: self.http.ask("POST", url, form=given),
            "json": lambda: self.http.ask("POST", url, text=json.dumps(given)),
            "empty": lambda: self.http.ask("POST", query),
            "stray": lambda: self.http.ask("GET", query, text="{}"),
        }[how]()
        return checked(answer)["openid"]


def errcode(answer):
    try:
        return json.loads(answer).get("errcode", 0)
    except ValueError:  # a file
        return 0


def checked(answer):
    decoded = json.loads(answer)
    if decoded.get("errcode", 0) != 0:
        raise RuntimeError(f"{decoded['errcode']} {decoded['errmsg']}")
    return decoded


def main(how):
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")
    caller = Caller({"requests": Requests, "http.client": HTTPClient}[how]())
    for line in sys.stdin:
        step, *given = line.rstrip("\n").split("\t")
        try:
            said = "ok\t" + (getattr(caller, step)(*given) or "")
        except Exception as error:
            said = f"error\t{type(error).__name__} {error}"
        print(said.replace("\n", " "), flush=True)


main(sys.argv[1])
