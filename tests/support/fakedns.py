#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A name server for tests that answers as it is told, also badly: UDP and TCP on one port.

In a test:
    with FakeDns({"example.lab": {"MX": ["10 mx.example.lab"]}, "mx.example.lab": {"A": ["192.0.2.1"]}}) as dns:
        ... f"127.0.0.1@{dns.port}" ...; dns.counts["example.lab", "MX"]

A zone is a dict from name to a dict of
    TYPE: [record, ...]   MX "10 host", A, AAAA, CNAME "host", TXT; bytes are raw rdata
    "ttl": seconds        default 300
    "rcode": N            answer that code (2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED), for all types
                          or {"A": N}
    "delay": seconds      before each answer
    "drop": True or N     no answer at all, or none to the first N questions
    "truncate": True      UDP answers are cut, TCP ones are whole; "loop": TCP ones as well
    "garbage": bytes      sent in place of a message (behind the id)
Names that are not there are NXDOMAIN; "*" is for all that have no entry of their own.
It may be changed while it runs. As a program: fakedns.py PORT ZONE.json
"""

import collections
import ipaddress
import json
import socket
import struct
import sys
import threading
import time

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28,
         "DS": 43, "DNSKEY": 48, "TLSA": 52}
TYPE_NAMES = {number: name for name, number in TYPES.items()}
SPECIAL = {"ttl", "rcode", "delay", "drop", "truncate", "garbage", "negative_ttl"}


def wire_name(name):
    out = b""
    for label in name.rstrip(".").split("."):
        if label:
            raw = label.encode("latin-1")
            out += bytes([len(raw)]) + raw
    return out + b"\0"


def rdata(kind, value):
    if isinstance(value, bytes):
        return value
    if kind in ("A", "AAAA"):
        return ipaddress.ip_address(value).packed
    if kind == "MX":
        preference, host = value.split()
        return struct.pack(">H", int(preference)) + wire_name(host)
    if kind in ("CNAME", "NS", "PTR"):
        return wire_name(value)
    if kind == "TXT":
        raw = value.encode()
        return bytes([len(raw)]) + raw
    return bytes.fromhex(value)


class FakeDns:
    def __init__(self, zone=None, port=0, address="127.0.0.1"):
        self.zone = zone if zone is not None else {}
        self.counts = collections.Counter()
        self.lock = threading.Lock()
        self.running = True
        self.udp, self.tcp = self._bind(address, port)
        self.port = self.udp.getsockname()[1]
        self.server = f"{address}@{self.port}"
        for run in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=run, daemon=True).start()

    @staticmethod
    def _bind(address, port):
        """The same port for both; another when chance gave one that is taken for TCP."""
        for _ in range(100):
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            udp.bind((address, port))
            tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tcp.bind((address, udp.getsockname()[1]))
                tcp.listen(128)
                return udp, tcp
            except OSError:
                udp.close()
                tcp.close()
                if port:
                    raise
        raise OSError("no port is free for both UDP and TCP")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.running = False
        for s in (self.udp, self.tcp):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()

    def count(self, name, kind=None):
        with self.lock:
            return sum(n for (who, what), n in self.counts.items()
                       if who == name and kind in (None, what))

    # ---- one question ----

    def _question(self, query):
        at, labels = 12, []
        while query[at]:
            n = query[at]
            labels.append(query[at + 1:at + 1 + n].decode("latin-1"))
            at += n + 1
        kind = struct.unpack_from(">H", query, at + 1)[0]
        return ".".join(labels), TYPE_NAMES.get(kind, str(kind)), query[12:at + 5]

    def _records(self, name, kind, entry):
        """[(owner, type, value, ttl)], following aliases within the zone."""
        out = []
        for _ in range(20):
            ttl = entry.get("ttl", 300)
            if kind in entry or "CNAME" not in entry:
                return out + [(name, kind, v, ttl) for v in entry.get(kind, [])]
            target = entry["CNAME"][0]
            out.append((name, "CNAME", target, ttl))
            if kind == "CNAME" or isinstance(target, bytes):
                return out
            name = target.rstrip(".").lower()
            entry = self.zone.get(name)
            if entry is None:
                return out
        return out

    def answer(self, query, over_tcp):
        """The answer's bytes, and how long to wait before it; None: silence."""
        name, kind, question = self._question(query)
        key = name.lower()
        with self.lock:
            self.counts[key, kind] += 1
            seen = self.counts[key, kind]
        entry = self.zone.get(key, self.zone.get("*"))
        ident = query[:2]
        rcode, records = 0, []
        if entry is None:
            # An empty non-terminal is there, with nothing.
            rcode = 0 if any(n.endswith("." + key) for n in self.zone) or not key else 3
            entry = {}
        drop = entry.get("drop", 0)
        if drop is True or seen <= int(drop):
            return None, 0
        delay = entry.get("delay", 0)
        if "garbage" in entry:
            return ident + entry["garbage"], delay
        forced = entry.get("rcode", 0)
        rcode = (forced.get(kind, 0) if isinstance(forced, dict) else forced) or rcode
        if rcode == 0:
            records = self._records(key, kind, entry)
        cut = entry.get("truncate")
        authority = b""
        if not any(r[1] == kind for r in records):
            zone = key.split(".", 1)[1] if "." in key else key
            soa = (wire_name("ns." + zone) + wire_name("root." + zone) +
                   struct.pack(">5I", 1, 3600, 600, 86400, entry.get("negative_ttl", 60)))
            authority = (wire_name(zone) + struct.pack(">HHIH", 6, 1, 3600, len(soa)) + soa
                         if rcode in (0, 3) else b"")
        body = b""
        for owner, what, value, ttl in records:
            raw = rdata(what, value)
            body += wire_name(owner) + struct.pack(">HHIH", TYPES[what], 1, ttl, len(raw)) + raw
        truncated = cut == "loop" or (cut and not over_tcp)
        if not over_tcp and 12 + len(question) + len(body) > 1232:
            truncated = True
        if truncated:
            records, body, authority = [], b"", b""
        flags = 0x8580 | (0x0200 if truncated else 0) | rcode
        head = ident + struct.pack(">HHHHH", flags, 1, len(records), 1 if authority else 0, 0)
        return head + question + body + authority, delay

    # ---- serving ----

    def _serve_udp(self):
        while self.running:
            try:
                query, peer = self.udp.recvfrom(65535)
            except OSError:
                return
            self._reply_udp(query, peer)

    def _reply_udp(self, query, peer):
        try:
            reply, delay = self.answer(query, False)
        except (IndexError, struct.error):
            return
        if reply is None:
            return

        def send():
            try:
                self.udp.sendto(reply, peer)
            except OSError:
                pass

        if delay:
            timer = threading.Timer(delay, send)
            timer.daemon = True
            timer.start()
        else:
            send()

    def _serve_tcp(self):
        while self.running:
            try:
                conn, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_connection, args=(conn,), daemon=True).start()

    def _serve_connection(self, conn):
        conn.settimeout(60)
        with conn:
            stream = conn.makefile("rb")
            while self.running:
                try:
                    head = stream.read(2)
                    if len(head) < 2:
                        return
                    query = stream.read(struct.unpack(">H", head)[0])
                    reply, delay = self.answer(query, True)
                    if reply is None:
                        continue
                    time.sleep(delay)
                    conn.sendall(struct.pack(">H", len(reply)) + reply)
                except (OSError, IndexError, struct.error):
                    return


def main():
    with open(sys.argv[2], encoding="utf-8") as f:
        zone = json.load(f)
    dns = FakeDns(zone, int(sys.argv[1]))
    print(dns.server, flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
