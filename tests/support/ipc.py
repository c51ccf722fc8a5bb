# SPDX-License-Identifier: Apache-2.0
"""The messages between our programs, for tests that play a neighbour: read from the same list
that the programs are built from (common/ipc/messages.h), so they cannot disagree."""

import os
import re
import select
import socket
import struct
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
WIDTH = {"u8": ("B", 1), "u16": (">H", 2), "u32": (">I", 4), "u64": (">Q", 8), "i64": (">q", 8)}


def _read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as f:
        text = f.read()
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.S).replace("\\\n", " ")


def _messages(text):
    fields = {}
    for name, body in re.findall(r"^#define MSG_(\w+)\(FIELD\)(.*)$", text, re.M):
        fields[name] = re.findall(r"FIELD\(\s*(\w+)\s*,\s*(\w+)\s*,", body)
    ids = re.findall(r"MESSAGE\(\s*(\d+)\s*,\s*(\w+)\s*,\s*MSG_(\w+)\s*\)", text)
    return {name: (int(number), fields[macro]) for number, name, macro in ids}


def _constants(text):
    found = {}
    for body in re.findall(r"enum(?:\s+\w+)?\s*\{(.*?)\}", text, re.S):
        value = -1
        for item in body.split(","):
            name, _, given = (part.strip() for part in item.partition("="))
            if name and given != "(id)":
                value = int(given, 0) if given else value + 1
                found[name] = value
    return found


_TEXT = _read("common/ipc/messages.h")
MESSAGES = _messages(_TEXT)
NAMES = {number: name for name, (number, _) in MESSAGES.items()}
C = _constants(_TEXT)
C.update(_constants(_read("common/mail/verdict.h")))
VERSION = int(re.search(r"#define IPC_VERSION (\d+)", _read("common/ipc/channel.h"))[1])


def encode(message, /, **values):
    number, fields = MESSAGES[message]
    body = b""
    for kind, field in fields:
        value = values.pop(field, b"" if kind == "str" else 0)
        if kind == "str":
            value = value.encode() if isinstance(value, str) else value
            body += struct.pack(">I", len(value)) + value
        else:
            body += struct.pack(WIDTH[kind][0], value)
    assert not values, f"{message} has no {', '.join(values)}"
    return number, body


def decode(number, body):
    name = NAMES[number]
    values, at = {}, 0
    for kind, field in MESSAGES[name][1]:
        if kind == "str":
            n = struct.unpack_from(">I", body, at)[0]
            values[field] = body[at + 4:at + 4 + n]
            at += 4 + n
        else:
            values[field] = struct.unpack_from(WIDTH[kind][0], body, at)[0]
            at += WIDTH[kind][1]
    assert at == len(body), f"{name}: {len(body) - at} bytes left over"
    return name, values


class Closed(Exception):
    pass


class Channel:
    """One end of a channel. Frames are (name, values, descriptor or None)."""

    def __init__(self, sock):
        self.sock = sock
        self.data = b""
        self.fds = []

    def send(self, message, /, fd=None, **values):
        number, body = encode(message, **values)
        flags = 0 if fd is None else 1
        frame = struct.pack(">IHBB", len(body), number, VERSION, flags) + body
        if fd is None:
            self.sock.sendall(frame)
        else:
            # The descriptor rides on the first byte; what is left follows.
            sent = socket.send_fds(self.sock, [frame], [fd])
            self.sock.sendall(frame[sent:])

    def _take(self):
        if len(self.data) < 8:
            return None
        if self.data[:8] == b"\xff" * 8:
            raise Closed  # the last word to a peer that broke the rules
        n, number, version, flags = struct.unpack_from(">IHBB", self.data)
        assert version == VERSION
        if len(self.data) < 8 + n:
            return None
        body, self.data = self.data[8:8 + n], self.data[8 + n:]
        name, values = decode(number, body)
        return name, values, self.fds.pop(0) if flags & 1 else None

    def receive(self, timeout=20):
        """The next frame; TimeoutError, Closed."""
        until = time.monotonic() + timeout
        while True:
            frame = self._take()
            if frame:
                return frame
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise TimeoutError("no frame came")
            try:
                data, fds, _, _ = socket.recv_fds(self.sock, 262144, 64)
            except ConnectionResetError:
                data, fds = b"", []
            if not data:
                raise Closed("the other side has closed")
            self.data += data
            self.fds += fds

    def expect(self, name, timeout=20):
        """Values of the next frame, which must be of that name."""
        got, values, fd = self.receive(timeout)
        if got != name:
            raise AssertionError(f"{got} came, not {name}: {values}")
        if fd is not None:
            values["fd"] = fd
        return values

    def close(self):
        self.sock.close()
