#!/usr/bin/env python3
"""A DHCP server on a string, for the tests: does what a file says that it reads anew for each message.

usage: dhcp.py serve LINK FILE   the file is JSON: address seconds server routers dns mask; mute (says nothing), deaf (to
                                 REQUESTs), nak (to REQUESTs). Prints every message it hears: KIND ciaddr requested server
       dhcp.py hostile LINK SEED answers every message with a hundred that are broken or lies, and none that is good
       dhcp.py claim LINK IP     answers every ARP question for IP, as if it had it
"""
import json
import random
import socket
import struct
import sys

KINDS = {1: "DISCOVER", 3: "REQUEST", 4: "DECLINE", 7: "RELEASE"}
BROADCAST = b"\xff" * 6


def open_link(link, protocol):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    s.bind((link, protocol))
    return s


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


def send(s, server, message, to=BROADCAST):
    source = socket.inet_aton(server)
    udp = struct.pack("!4H", 67, 68, 8 + len(message), 0) + message
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, source, b"\xff" * 4)
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    s.send(to + s.getsockname()[4] + b"\x08\x00" + head + udp)


def questions(s):
    while True:
        frame, where = s.recvfrom(4096)
        if where[2] == socket.PACKET_OUTGOING or len(frame) < 42 or frame[23] != 17:
            continue
        ip = frame[14:]
        udp = ip[(ip[0] & 15) * 4:]
        message = udp[8:struct.unpack("!H", udp[4:6])[0]]
        if udp[2:4] != b"\x00\x43" or len(message) < 240 or message[0] != 1:
            continue
        options, at = {}, 240
        while at < len(message) and message[at] != 255:
            if message[at] == 0:
                at += 1
                continue
            options[message[at]] = message[at + 2:at + 2 + message[at + 1]]
            at += 2 + message[at + 1]
        yield message, options


def reply(question, kind, yours, options):
    message = bytearray(b"\x02\x01\x06\x00" + question[4:8] + bytes(228))
    message[16:20] = socket.inet_aton(yours)
    message[28:44] = question[28:44]
    message += b"\x63\x82\x53\x63" + bytes([53, 1, kind])
    for code, value in options:
        message += bytes([code, len(value)]) + value
    return bytes(message) + b"\xff"


def text(options, code):
    return socket.inet_ntoa(options[code]) if len(options.get(code, b"")) == 4 else "-"


def serve(link, path):
    s = open_link(link, 0x0800)
    print("listening", flush=True)
    for question, options in questions(s):
        kind = options.get(53, b"\0")[0]
        held = socket.inet_ntoa(question[12:16])
        print(KINDS.get(kind, kind), held, text(options, 50), text(options, 54), flush=True)
        with open(path) as f:
            wish = json.load(f)
        server = wish["server"]
        addresses = lambda key: b"".join(socket.inet_aton(ip) for ip in wish.get(key, []))
        if wish.get("mute") or kind == 3 and (wish.get("deaf") or options.get(54, socket.inet_aton(server)) != socket.inet_aton(server)):
            continue
        said = [(54, socket.inet_aton(server))]
        lent = said + [(51, struct.pack("!I", wish["seconds"])), (1, socket.inet_aton(wish.get("mask", "255.255.255.0")))]
        lent += [(code, addresses(key)) for code, key in ((3, "routers"), (6, "dns")) if wish.get(key)]
        if kind == 1:
            send(s, server, reply(question, 2, wish["address"], lent))
        elif kind == 3:
            wanted = text(options, 50) if 50 in options else held
            if wish.get("nak") or wanted != wish["address"]:
                send(s, server, reply(question, 6, "0.0.0.0", said + [(56, b"not you")]))
            else:
                send(s, server, reply(question, 5, wish["address"], lent))


def hostile(link, seed):
    s = open_link(link, 0x0800)
    chance = random.Random(int(seed))
    print("listening", flush=True)
    for question, _ in questions(s):
        for _ in range(100):
            options = [(54, bytes([192, 168, 99, 66])), (51, bytes(4) if chance.random() < 0.5 else bytes([0, 0, 0, 2]))]
            options += [(chance.randrange(256), chance.randbytes(chance.randrange(40))) for _ in range(chance.randrange(6))]
            yours = socket.inet_ntoa(chance.choice([bytes(4), b"\x7f\0\0\1", b"\xff" * 4, b"\xe0\0\0\1", chance.randbytes(4)]))
            message = bytearray(reply(question, chance.choice([2, 5, 6, 9]), yours, options))
            for _ in range(chance.randrange(4)):
                message[chance.randrange(len(message))] = chance.randrange(256)
            lie = bytes(message[:chance.choice([len(message), chance.randrange(len(message))])])
            send(s, "192.168.99.66", lie)


def claim(link, ip):
    s = open_link(link, 0x0806)
    ip = socket.inet_aton(ip)
    mine = s.getsockname()[4]
    print("listening", flush=True)
    while True:
        frame, where = s.recvfrom(4096)
        if where[2] != socket.PACKET_OUTGOING and len(frame) >= 42 and frame[20:22] == b"\0\1" and frame[38:42] == ip:
            arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + mine + ip + frame[22:28] + frame[28:32]
            s.send(frame[6:12] + mine + b"\x08\x06" + arp)
            print("claimed", flush=True)


{"serve": serve, "hostile": hostile, "claim": claim}[sys.argv[1]](*sys.argv[2:])
