"""One host of the lab: serves, connects and sends raw frames, as the lines on its standard input say.

  serve tcp|udp PORT [ADDRESS]       answers every client with "NAME saw CLIENT"
  probe SECONDS TARGET...            connects to all at once; a target is tcp:ADDRESS:PORT, udp:..., ping:ADDRESS or
                                     dns:ADDRESS
  raw SECONDS LINK MAC IPV4 IPV6 TARGET...  as probe, from these addresses, by frames of its own making to that MAC
  lies LINK KEY=VALUE...             sends one frame of each kind in `frames`
  pretend SOURCE ADDRESS PORT        sends a datagram with another's source, marked with it
  watch LINK                         collects the marks of frames that arrive
  hear PORT                          collects them from datagrams
  seen SECONDS                       which marks arrived
Each command is answered by one line."""

import re
import socket
import struct
import sys
import threading
import time

NAME = sys.argv[1]


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(kind, port, address="::"):
    s = socket.socket(family(address), socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, int(port)))
    if kind == "tcp":
        s.listen(64)
    threading.Thread(target=answer, args=(kind, s), daemon=True).start()
    return "ok"


def answer(kind, s):
    while True:
        if kind == "tcp":
            c, peer = s.accept()
            c.sendall(saw(peer))
            c.close()
        else:
            _, peer = s.recvfrom(2048)
            s.sendto(saw(peer), peer)


def saw(peer):
    address = re.sub(r"^::ffff:", "", peer[0]).split("%")[0]
    return f"{NAME} saw {address}".encode()


def connect(target, seconds):
    kind, rest = target.split(":", 1)
    if kind == "ping":
        return ping(rest, seconds)
    if kind == "dns":
        return names(rest, seconds)
    address, port = rest.rsplit(":", 1)
    to = socket.getaddrinfo(address.strip("[]"), int(port), type=socket.SOCK_STREAM)[0][4]
    s = socket.socket(family(address), socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    s.settimeout(seconds)
    try:
        s.connect(to)
        if kind == "udp":
            s.send(f"<pw {NAME}>".encode())
        return s.recv(100).decode() or "closed"
    except socket.timeout:
        return "silent"
    except ConnectionRefusedError:
        return "refused"
    except OSError as e:
        return e.strerror.lower()
    finally:
        s.close()


def names(address, seconds):
    """Asks for the address of a.dns.podman, whatever the answer."""
    s = socket.socket(family(address), socket.SOCK_DGRAM)
    s.settimeout(seconds)
    question = struct.pack("!6H", 77, 0x100, 1, 0, 0, 0) + b"\1a\3dns\6podman\0" + struct.pack("!2H", 1, 1)
    try:
        s.connect((address, 53))
        s.send(question)
        return "answered" if s.recv(512)[:2] == question[:2] else "nonsense"
    except socket.timeout:
        return "silent"
    except OSError as e:
        return e.strerror.lower()
    finally:
        s.close()


def ping(address, seconds):
    request, reply = (128, 129) if ":" in address else (8, 0)
    protocol = socket.IPPROTO_ICMPV6 if ":" in address else socket.IPPROTO_ICMP
    s = socket.socket(family(address), socket.SOCK_RAW, protocol)
    echo = struct.pack("!BBHHH", request, 0, 0, 77, 1)
    echo = echo[:2] + struct.pack("!H", checksum(echo)) + echo[4:]
    s.sendto(echo, (address, 0))
    deadline = time.time() + seconds
    while (left := deadline - time.time()) > 0:
        s.settimeout(left)
        try:
            packet, _ = s.recvfrom(2048)
        except socket.timeout:
            break
        if packet[0 if ":" in address else 20] == reply:
            return "pong"
    return "silent"


def probe(seconds, *targets):
    results = [""] * len(targets)

    def one(n):
        results[n] = connect(targets[n], float(seconds))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(len(targets))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return ",".join(results)


# Frames. `me` and `victim` are (MAC, IPv4, IPv6); `router` is the bridge's MAC.

def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def ip4(src, dst, proto, payload, fragment=0, length=None):
    src, dst = socket.inet_aton(src), socket.inet_aton(dst)
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length or 20 + len(payload), 7, fragment, 64, proto, 0, src, dst)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def udp4(src, dst, mark, sport=4000, dport=4000):
    return ip4(src, dst, 17, struct.pack("!HHHH", sport, dport, 8 + len(mark), 0) + mark)


def halves(src, dst, mark):
    """One datagram in two fragments, the mark in the second."""
    head = struct.pack("!HHHH", 4000, 4000, 16 + len(mark), 0) + b"\0" * 8
    return [ip4(src, dst, 17, head, fragment=0x2000), ip4(src, dst, 17, mark, fragment=2)]


def ip6(src, dst, header, payload):
    src, dst = socket.inet_pton(socket.AF_INET6, src), socket.inet_pton(socket.AF_INET6, dst)
    return struct.pack("!IHBB16s16s", 6 << 28, len(payload), header, 255, src, dst) + payload


def upper6(src, dst, proto, body, at):
    """With the checksum filled in at offset `at`."""
    src, dst = socket.inet_pton(socket.AF_INET6, src), socket.inet_pton(socket.AF_INET6, dst)
    total = checksum(src + dst + struct.pack("!IBBBB", len(body), 0, 0, 0, proto) + body)
    return body[:at] + struct.pack("!H", total) + body[at + 2:]


def udp6(src, dst, mark, sport=4000, dport=4000):
    body = struct.pack("!HHHH", sport, dport, 8 + len(mark), 0) + mark
    return ip6(src, dst, 17, upper6(src, dst, 17, body, 6))


def option(mark):
    """An option of neighbour discovery that nobody knows, with the mark inside."""
    mark += b"\0" * (-(len(mark) + 2) % 8)
    return struct.pack("!BB", 200, (len(mark) + 2) // 8) + mark


def icmp6(src, dst, kind, fields, mark, headers=b""):
    body = struct.pack("!BBH", kind, 0, 0) + fields + option(mark)
    body = upper6(src, dst, 58, body, 2)
    return ip6(src, dst, headers[0] if headers else 58, headers[1:] + body)


def target(address):
    return b"\0" * 4 + socket.inet_pton(socket.AF_INET6, address)


def arp(sha, spa, tpa, mark):
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2)
    return head + mac(sha) + socket.inet_aton(spa) + b"\xff" * 6 + socket.inet_aton(tpa) + mark


def frames(me, victim, gateway, lan):
    """(name, destination, source, protocol, content of a mark)"""
    m, i4, i6 = me.split("/")
    vm, v4, v6 = victim.split("/")
    gm, g4, g6 = gateway.split("/")
    everyone, nodes = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"
    ip, six, arps = 0x0800, 0x86DD, 0x0806
    ra = struct.pack("!BBHII", 64, 0, 1800, 0, 0)
    ll = "fe80::" + ":".join(f"{int(p, 16):x}" for p in eui(m))
    pad = bytes([1, 4, 0, 0, 0, 0])
    return [
        ("true-udp", vm, m, ip, lambda x: udp4(i4, v4, x)),
        ("true-broadcast", everyone, m, ip, lambda x: udp4(i4, "255.255.255.255", x)),
        ("true-fragments", vm, m, ip, lambda x: halves(i4, v4, x)),
        ("true-arp", everyone, m, arps, lambda x: arp(m, i4, v4, x)),
        ("true-udp6", vm, m, six, lambda x: udp6(i6, v6, x)),
        ("true-link-local", vm, m, six, lambda x: udp6(ll, v6, x)),
        ("true-advert", vm, m, six, lambda x: icmp6(i6, v6, 136, target(i6), x)),
        ("true-solicit", nodes, m, six, lambda x: icmp6("::", "ff02::1", 135, target(i6), x)),
        ("true-options", vm, m, six, lambda x: icmp6(i6, v6, 129, b"\0" * 4, x, bytes([60, 58, 0]) + pad)),
        ("true-out", gm, m, ip, lambda x: udp4(i4, lan, x)),
        ("mac", vm, vm[:-2] + "99", ip, lambda x: udp4(i4, v4, x)),
        ("ip", vm, m, ip, lambda x: udp4("10.88.0.99", v4, x)),
        ("ip-of-gateway", vm, m, ip, lambda x: udp4(g4, v4, x)),
        ("ip-outwards", gm, m, ip, lambda x: udp4("203.0.113.9", lan, x)),
        # An answer to nothing, which address translation leaves as it is.
        ("invalid", gm, m, ip, lambda x: ip4(i4, lan, 6, struct.pack("!HHIIBBHHH", 4000, 80, 1, 1, 0x50, 4, 0, 0, 0) + x)),
        ("loopback", gm, m, ip, lambda x: udp4(i4, "127.0.0.1", x)),
        ("from-loopback", gm, m, ip, lambda x: udp4("127.0.0.1", g4, x)),
        ("ip-too-long", vm, m, ip, lambda x: ip4(i4, v4, 17, b"\0" * 8 + x, length=900)),
        ("dhcp-server", everyone, m, ip, lambda x: udp4(i4, "255.255.255.255", x, sport=67)),
        ("arp-of-gateway", everyone, m, arps, lambda x: arp(m, g4, v4, x)),
        ("arp-other-mac", everyone, m, arps, lambda x: arp(vm, i4, v4, x)),
        ("ip6", vm, m, six, lambda x: udp6("fd00:88::99", v6, x)),
        ("link-local", vm, m, six, lambda x: udp6("fe80::1", v6, x)),
        ("router-advert", nodes, m, six, lambda x: icmp6(ll, "ff02::1", 134, ra, x)),
        ("router-advert-behind-options", nodes, m, six, lambda x: icmp6(ll, "ff02::1", 134, ra, x, bytes([60, 58, 0]) + pad)),
        ("router-advert-behind-two", nodes, m, six,
         lambda x: icmp6(ll, "ff02::1", 134, ra, x, bytes([0, 60, 0]) + pad + bytes([58, 0]) + pad)),
        ("fragment-without-transport", nodes, m, six,
         lambda x: ip6(ll, "ff02::1", 44, bytes([60, 0, 0, 1, 0, 0, 0, 7, 58, 4]) + x.ljust(30, b"\0"))),
        ("second-fragment-of-options", nodes, m, six,
         lambda x: ip6(ll, "ff02::1", 44, bytes([60, 0, 0, 8, 0, 0, 0, 7]) + x)),
        ("redirect", vm, m, six, lambda x: icmp6(ll, v6, 137, target(g6) + b"\0" * 16, x)),
        ("advert-of-gateway", vm, m, six, lambda x: icmp6(i6, v6, 136, target(g6), x)),
        ("solicit-of-victim", nodes, m, six, lambda x: icmp6("::", "ff02::1", 135, target(v6), x)),
        ("dhcp6-server", vm, m, six, lambda x: udp6(ll, v6, x, sport=547)),
        ("spanning-tree", "01:80:c2:00:00:00", m, 0x26, lambda x: b"\x42\x42\x03" + x.ljust(35, b"\0")),
        ("vlan", vm, m, 0x8100, lambda x: struct.pack("!HH", 5, ip) + udp4(i4, v4, x)),
        ("double-vlan", vm, m, 0x88A8, lambda x: struct.pack("!HHHH", 5, 0x8100, 6, ip) + udp4(i4, v4, x)),
        ("other-protocol", vm, m, 0x88B5, lambda x: x),
        # Last, for a bridge that believes them sends to us what is for the victim.
        ("mac-of-victim", gm, vm, ip, lambda x: udp4(v4, lan, x)),
        ("pause", "01:80:c2:00:00:02", vm, 0x8809, lambda x: x),
        ("lldp", "01:80:c2:00:00:0e", vm, 0x88CC, lambda x: x),
    ]


def eui(text):
    b = mac(text)
    b = bytes([b[0] ^ 2]) + b[1:3] + b"\xff\xfe" + b[3:]
    return [b[n:n + 2].hex() for n in range(0, 8, 2)]


def lies(link, *about):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind((link, 0))
    sent = []
    for name, dst, src, proto, content in frames(**dict(a.split("=") for a in about)):
        packets = content(f"<pw {name}>".encode())
        for packet in packets if isinstance(packets, list) else [packets]:
            s.send(mac(dst) + mac(src) + struct.pack("!H", proto) + packet)
        sent.append(name)
    return ",".join(sent)


def pretend(source, address, port):
    s = socket.socket(family(address), socket.SOCK_RAW, socket.IPPROTO_RAW)
    datagram = udp6 if ":" in address else udp4
    s.sendto(datagram(source, address, f"<pw {source}>".encode(), dport=int(port)), (address, 0))
    return "ok"


def syn(src, dst, sport, dport):
    body = struct.pack("!HHIIBBHHH", sport, dport, 7, 0, 0x50, 2, 65535, 0, 0)
    if ":" in src:
        return ip6(src, dst, 6, upper6(src, dst, 6, body, 16))
    total = checksum(socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack("!BBH", 0, 6, len(body)) + body)
    return ip4(src, dst, 6, body[:16] + struct.pack("!H", total) + body[18:])


def datagram(src, dst, sport, dport):
    return (udp6 if ":" in src else udp4)(src, dst, b"<pw raw>", sport, dport)


FIRST = 20000


def raw(seconds, link, to, me4, me6, *targets):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.bind((link, 3))
    answers = ["silent"] * len(targets)
    for n, target in enumerate(targets):
        kind, rest = target.split(":", 1)
        address, port = rest.rsplit(":", 1)
        address = address.strip("[]")
        me, proto = (me6, 0x86DD) if ":" in address else (me4, 0x0800)
        packet = (syn if kind == "tcp" else datagram)(me, address, FIRST + n, int(port))
        s.send(mac(to) + s.getsockname()[4] + struct.pack("!H", proto) + packet)
    deadline = time.time() + float(seconds)
    while "silent" in answers and (left := deadline - time.time()) > 0:
        s.settimeout(left)
        try:
            frame = s.recv(4096)
        except socket.timeout:
            break
        four = frame[12:14] == b"\x08\0"
        protocol, upper = (frame[23], frame[14 + 4 * (frame[14] & 15):]) if four else (frame[20], frame[54:])
        n = struct.unpack("!H", upper[2:4])[0] - FIRST if protocol in (6, 17) and len(upper) >= 8 else -1
        if 0 <= n < len(targets):
            answers[n] = "answered" if protocol == 17 or upper[13] & 0x12 == 0x12 else "refused"
    s.close()
    return ",".join(answers)


SEEN = set()


def watch(link):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.bind((link, 3))
    threading.Thread(target=collect, args=(s,), daemon=True).start()
    SEEN.clear()
    return "ok"


def hear(port):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("::", int(port)))
    threading.Thread(target=collect, args=(s,), daemon=True).start()
    SEEN.clear()
    return "ok"


def collect(s):
    while True:
        frame, sender = s.recvfrom(4096)
        is_packet = s.family == socket.AF_PACKET
        if not is_packet or sender[2] != socket.PACKET_OUTGOING and not is_error(frame):
            SEEN.update(m.decode() for m in re.findall(rb"<pw ([a-z0-9.:-]+)>", frame))


def is_error(frame):
    """ICMP's errors quote what they are about."""
    return frame[12:14] == b"\x08\0" and frame[23] == 1 or frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] < 128


def seen(seconds):
    """Ends early only when nothing came for that long."""
    before = -1
    while len(SEEN) != before:
        before = len(SEEN)
        time.sleep(float(seconds))
    return ",".join(sorted(SEEN))


COMMANDS = {f.__name__: f for f in (serve, probe, raw, lies, pretend, watch, hear, seen)}
for line in sys.stdin:
    words = line.split()
    print(COMMANDS[words[0]](*words[1:]), flush=True)
