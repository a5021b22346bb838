# SPDX-License-Identifier: Apache-2.0

"""An application that receives deliveries of the gateway, verified by the headers of
Standard Webhooks. It answers a text message with a reply.

    LISTEN=127.0.0.1:9000 WEBHOOK_SECRET=whsec_... python3 receiver.py
"""

import base64
import concurrent.futures
import hmac
import http.server
import logging
import os
import re
import threading
import time

KEY = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))

# For the id of each delivery, what is answered. In an application it is a table, with the
# id as its key: it survives a restart, and old rows are deleted.
answers = {}
lock = threading.Lock()


def verified(headers, body):
    """By Standard Webhooks: HMAC-SHA256 over id, time and body, of the last five minutes.

    The specification has a library that does the same (pip install standardwebhooks).
    """
    event_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not event_id or not re.fullmatch("[0-9]{1,12}", timestamp) or abs(time.time() - int(timestamp)) > 300:
        return False
    mac = hmac.digest(KEY, f"{event_id}.{timestamp}.".encode() + body, "sha256")
    want = b"v1," + base64.b64encode(mac)
    given = headers.get("webhook-signature", "").encode().split(b" ")  # two while secrets are exchanged
    return any(hmac.compare_digest(want, signature) for signature in given)


def once(event_id, body):
    """Handles a delivery once. A repetition gets the same answer, and waits for it if need be."""
    with lock:
        first = event_id not in answers
        answer = answers.setdefault(event_id, concurrent.futures.Future())
    if first:
        try:
            answer.set_result(handle(event_id, body))
        except Exception as error:
            del answers[event_id]
            answer.set_exception(error)
    return answer.result()


def handle(event_id, body):
    """Does what a message or an event asks for, and returns the reply to a follower, or "".

    What it does not know it takes all the same: an error brings it back, for days.
    """
    # InfoType is of events about the platform and its accounts, MsgType of messages and
    # events of an account.
    kind = field(body, "InfoType") or field(body, "MsgType")
    logging.info("handled %s %s", event_id, kind)
    if kind == "text":
        return reply(body, "You wrote: " + field(body, "Content"))
    if kind in ("authorized", "unauthorized"):
        logging.info("%s: %s", field(body, "AuthorizerAppid"), kind)
    return ""


def field(body, name):
    """The text of the first element of a name.

    No XML parser: WeChat does not escape what followers write, who can write "]]>" and
    characters that XML forbids. The first one counts: WeChat writes names and types
    before a follower's text.
    """
    found = re.search(rf"<{name}>\s*(?:<!\[CDATA\[(.*?)\]\]>|([^<]*?))\s*</{name}>", body, re.DOTALL)
    return (found[1] or found[2] or "") if found else ""


def reply(message, text):
    """A text for the follower who has sent a message."""
    return (
        f"<xml><ToUserName><![CDATA[{field(message, 'FromUserName')}]]></ToUserName>"
        f"<FromUserName><![CDATA[{field(message, 'ToUserName')}]]></FromUserName>"
        f"<CreateTime>{int(time.time())}</CreateTime><MsgType><![CDATA[text]]></MsgType>"
        f"<Content><![CDATA[{text.replace(']]>', ']]]]><![CDATA[>')}]]></Content></xml>"
    )


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, answer = 200, ""
        if not verified(self.headers, body):  # forged, or older than five minutes
            status = 401
        else:
            try:
                answer = once(self.headers["webhook-id"], body.decode(errors="replace"))
            except Exception:  # the gateway delivers it again
                logging.exception("failed")
                status = 500
        text = answer.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/xml; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


logging.basicConfig(level=logging.INFO, format="%(message)s")
host, port = os.environ["LISTEN"].split(":")
server = http.server.ThreadingHTTPServer((host, int(port)), Receiver)
logging.info("listening on %s:%d", host, server.server_port)
server.serve_forever()
