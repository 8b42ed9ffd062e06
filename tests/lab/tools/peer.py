"""The other end of a conversation, for labs: small servers and clients, and frames that no kernel would send.

usage: peer.py http PORT [ADDRESS]           answers every GET with the address it came from
       peer.py udp-echo PORT [TEXT [ADDRESS]] answers every datagram with TEXT (its own bytes when absent)
       peer.py udp-ask ADDRESS PORT           sends a datagram, prints the answer; 1 when none comes within 2 s
       peer.py udp-keep ADDRESS PORT SECONDS  sends every 20 ms from one source port; prints each change of answer
       peer.py tcp-keep ADDRESS PORT          fetches a page every 20 ms until stdin ends; prints how many failed
       peer.py dns-serve ADDRESS IPV4         says IPV4 of every name, 100 times of big.example; prints who asks what
       peer.py dns-keep SERVER NAME IPV4      asks for NAME every 5 ms until stdin ends; prints how many failed
       peer.py dns-flood SERVER KIND SECONDS RATE  datagrams; KIND: outside (names of others), broken (mutated, cut, noise)
       peer.py dns-hold SERVER KIND COUNT     connections, until stdin ends; KIND: idle, half (of a length), deaf (asks and
                                              never reads), broken (noise, and every second one reset at once)
       peer.py tcp-echo PORT [ADDRESS]        sends back what it gets, and an end after an end
       peer.py tcp-count PORT                 reads to the end, answers how many bytes it were
       peer.py tcp-push ADDRESS PORT BYTES    sends that many and an end, prints the answer
       peer.py tcp-talk ADDRESS PORT          one connection: says each line of stdin, prints the answer
       peer.py tcp-crowd ADDRESS PORT COUNT   that many connections at a time, until two fail; prints how many are answered
       peer.py udp-wait PORT SECONDS          prints what comes from whom
       peer.py sctp-serve PORT TEXT | sctp-ask ADDRESS PORT
       peer.py arp LINK IP                    says, in raw frames, that IP is at LINK's MAC
       peer.py spoof LINK MAC4 SOURCE TARGET PORT  a raw UDP datagram from SOURCE to TARGET via the MAC
       peer.py flood LINK MAC SOURCE TARGET KIND SECONDS  raw frames as fast as it can, from SOURCE (random: from anybody)
                                              to TARGET via the MAC; KIND: syn, ack, udp, echo, mutated (each once)
       peer.py strangers LINK MAC TARGET PORT  datagrams from ever new addresses and ports, via the MAC, until it is killed
       peer.py pty COMMAND…                   runs it on a terminal, prints what the terminal shows
       peer.py fill DIRECTORY                 writes until the file system is full
"""
import os, socket, struct, sys, time

def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET

def raw(link):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind((link, 0))
    return s

def mac(link):
    return raw(link).getsockname()[4]

def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF

def http(port, address="::"):
    from http.server import BaseHTTPRequestHandler, HTTPServer
    class Server(HTTPServer):
        address_family = family(address)
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            body = (self.client_address[0].removeprefix("::ffff:") + "\n").encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        def log_message(self, *_):
            pass
    server = Server((address, int(port)), Answer)
    print("listening", flush=True)
    server.serve_forever()

def udp_echo(port, text="", address="::"):
    s = socket.socket(family(address), socket.SOCK_DGRAM)
    s.bind((address, int(port)))
    print("listening", flush=True)
    while True:
        data, peer = s.recvfrom(65535)
        s.sendto(text.encode() or data, peer)

def udp_ask(address, port):
    s = socket.socket(family(address), socket.SOCK_DGRAM)
    s.settimeout(2)
    s.connect((address, int(port)))
    s.send(b"hello")
    print(s.recv(65535).decode())

def udp_keep(address, port, seconds):
    s = socket.socket(family(address), socket.SOCK_DGRAM)
    s.settimeout(0.02)
    begun = time.monotonic()
    last = None
    print("sending", flush=True)
    while time.monotonic() - begun < float(seconds):
        sent = time.monotonic()
        try:
            s.sendto(b"hello", (address, int(port)))
            answer = s.recv(65535).decode()
        except OSError:
            continue
        finally:
            time.sleep(max(0, sent + 0.02 - time.monotonic()))
        if answer != last:
            print(f"{time.time():.3f} {answer}", flush=True)
            last = answer

def tcp_keep(address, port):
    import select
    asked = failed = 0
    print("asking", flush=True)
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        asked += 1
        try:
            s = socket.create_connection((address, int(port)), timeout=3)
            s.settimeout(3)
            s.send(b"GET / HTTP/1.0\r\n\r\n")
            if b" 200 " not in s.recv(1000):
                raise OSError("no page")
            s.close()
        except OSError as error:
            failed += 1
            print(f"at {asked}: {error}", flush=True)
    print(f"{asked} asked, {failed} failed", flush=True)

def dns_serve(address, ip):
    import threading
    def answer(question, by):
        end = question.index(b"\0", 12) + 5
        name, at = [], 12
        while question[at]:
            name.append(question[at + 1:at + 1 + question[at]].decode())
            at += 1 + question[at]
        name = ".".join(name)
        print(f"{by} {name}", flush=True)
        count = 100 if name == "big.example" else 1
        # 0x8180: an answer with recursion; 0x200: there is more.
        flags, count = (0x8380, 0) if by == "udp" and count > 1 else (0x8180, count)
        record = b"\xc0\x0c\0\1\0\1\0\0\0<\0\4" + socket.inet_aton(ip)
        return question[:2] + struct.pack("!5H", flags, 1, count, 0, 0) + question[12:end] + record * count
    def by_tcp(listener):
        while True:
            c = listener.accept()[0]
            question = c.recv(65535)[2:]
            said = answer(question, "tcp")
            c.sendall(struct.pack("!H", len(said)) + said)
            c.close()
    # A link-local address brings the number of its link along.
    at = socket.getaddrinfo(address, 53, type=socket.SOCK_DGRAM)[0][4]
    listener = socket.create_server(at, family=family(address))
    threading.Thread(target=by_tcp, args=[listener], daemon=True).start()
    s = socket.socket(family(address), socket.SOCK_DGRAM)
    s.bind(at)
    print("serving", flush=True)
    while True:
        question, peer = s.recvfrom(65535)
        s.sendto(answer(question, "udp"), peer)

def dns_keep(server, name, ip):
    import select
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    asked = failed = 0
    print("asking", flush=True)
    while not select.select([sys.stdin], [], [], 0.005)[0]:
        asked += 1
        s = socket.socket(family(server), socket.SOCK_DGRAM)
        try:
            s.settimeout(1)
            s.connect((server, 53))
            question = struct.pack("!6H", asked & 0xFFFF, 0x100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"
            s.send(question)
            answer = s.recv(65535)
            if answer[:2] != question[:2] or answer[3] & 15 or answer[-4:] != socket.inet_aton(ip):
                raise OSError(f"another answer: {answer.hex()}")
        except OSError as error:
            failed += 1
            print(f"at {asked}: {error}", flush=True)
        s.close()
    print(f"{asked} asked, {failed} failed", flush=True)

def dns_question(chance, name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", chance.randrange(65536), 0x100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"

def dns_broken(chance):
    question = bytearray(dns_question(chance, "db.dns.podman"))
    kind = chance.randrange(4)
    if kind == 0:
        return chance.randbytes(chance.randrange(600))
    if kind == 1:
        # A name that points at itself, for ever.
        return bytes(question[:12]) + b"\xc0\x0c\0\1\0\1"
    for _ in range(chance.randrange(1, 5)):
        question[chance.randrange(len(question))] = chance.randrange(256)
    return bytes(question[:chance.randrange(len(question))] if kind == 2 else question)

def dns_flood(server, kind, seconds, rate):
    import random
    chance = random.Random(7)
    s = socket.socket(family(server), socket.SOCK_DGRAM)
    s.connect((server, 53))
    s.setblocking(False)
    print("flooding", flush=True)
    begun, sent = time.monotonic(), 0
    while (passed := time.monotonic() - begun) < float(seconds):
        if sent > passed * float(rate):
            time.sleep(0.001)
            continue
        for _ in range(20):
            what = dns_broken(chance) if kind == "broken" else dns_question(chance, f"n{chance.randrange(10**9)}.example")
            try:
                s.send(what)
                sent += 1
            except OSError:
                pass
    print(sent, "sent", flush=True)

def dns_hold(server, kind, count):
    import random, select
    chance, held = random.Random(7), []
    for n in range(int(count)):
        try:
            s = socket.create_connection((server, 53), timeout=1)
            s.setblocking(False)
            if kind == "half":
                s.send(b"\0")
            if kind == "deaf":
                question = dns_question(chance, "db.dns.podman")
                s.send((struct.pack("!H", len(question)) + question) * 200)
            if kind == "broken":
                noise = dns_broken(chance)
                s.send(struct.pack("!H", len(noise)) + noise)
                if n % 2:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    s.close()
                    continue
            held.append(s)
        except OSError:
            pass
    print(len(held), "held", flush=True)
    select.select([sys.stdin], [], [])

def tcp_serve(port, address, serve):
    import threading
    s = socket.create_server((address, int(port)), family=family(address), backlog=512, dualstack_ipv6=address == "::")
    print("listening", flush=True)
    while True:
        threading.Thread(target=serve, args=[s.accept()[0]], daemon=True).start()

def tcp_echo(port, address="::"):
    def echo(c):
        while data := c.recv(65536):
            c.sendall(data)
        c.close()
    tcp_serve(port, address, echo)

def tcp_count(port):
    def count(c):
        total = 0
        while data := c.recv(65536):
            total += len(data)
        c.sendall(str(total).encode())
        c.close()
    tcp_serve(port, "::", count)

def tcp_push(address, port, count):
    s = socket.create_connection((address, int(port)), timeout=20)
    block, left = b"x" * 65536, int(count)
    while left > 0:
        left -= s.send(block[:left])
    s.shutdown(socket.SHUT_WR)
    answer = b""
    while data := s.recv(65536):
        answer += data
    print(answer.decode())

def tcp_talk(address, port):
    s = socket.create_connection((address, int(port)), timeout=3)
    print("connected", flush=True)
    for line in sys.stdin:
        s.sendall(line.encode())
        print(s.recv(65536).decode(), end="", flush=True)

def tcp_crowd(address, port, count):
    crowd, answered, failed = [], 0, 0
    for _ in range(int(count)):
        if failed > 1:
            break
        try:
            s = socket.create_connection((address, int(port)), timeout=3)
            crowd.append(s)
            s.sendall(b"hello")
            answered += s.recv(100) == b"hello"
        except OSError:
            failed += 1
    print(answered, "answered", flush=True)

def udp_wait(port, seconds):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.bind(("::", int(port)))
    print("listening", flush=True)
    end = time.monotonic() + float(seconds)
    while (left := end - time.monotonic()) > 0:
        s.settimeout(left)
        try:
            data, peer = s.recvfrom(65535)
        except TimeoutError:
            break
        print(peer[0].removeprefix("::ffff:"), data.decode(errors="replace"), flush=True)

def sctp_serve(port, text):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)
    s.bind(("0.0.0.0", int(port)))
    s.listen()
    print("listening", flush=True)
    while True:
        c, _ = s.accept()
        c.send(text.encode())
        c.close()

def sctp_ask(address, port):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)
    s.settimeout(3)
    s.connect((address, int(port)))
    print(s.recv(1000).decode())

def arp(link, ip):
    mine, ip = mac(link), socket.inet_aton(ip)
    for operation in (1, 2):
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + mine + ip + b"\xff" * 6 + ip
        for _ in range(3):
            raw(link).send(b"\xff" * 6 + mine + b"\x08\x06" + body)

def spoof(link, via, source, target, port):
    data = b"spoofed"
    udp = struct.pack("!HHHH", 4444, int(port), 8 + len(data), 0) + data
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(target))
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    raw(link).send(bytes.fromhex(via.replace(":", "")) + mac(link) + b"\x08\x00" + head + udp)

def flood(link, via, source, target, kind, seconds):
    import random
    chance = random.Random(7)
    s, me = raw(link), mac(link)
    ethernet = bytes.fromhex(via.replace(":", "")) + me + b"\x08\0"
    def frame():
        src = socket.inet_aton(source) if source != "random" else bytes([chance.choice([10, 198, 203]), *chance.randbytes(3)])
        dst, number = socket.inet_aton(target), chance.randrange(65536)
        ports = struct.pack("!HH", 1024 + number % 60000, 7000 if kind == "udp" else 80)
        if kind == "udp":
            protocol, rest = 17, struct.pack("!HH", 12, 0) + b"hell"
            ports = struct.pack("!HH", 1024 + number % 60000, 1 + chance.randrange(60000))
        elif kind == "echo":
            protocol, ports, rest = 1, b"", struct.pack("!BBHHH", 8, 0, 0, number, 1)
            rest = rest[:2] + struct.pack("!H", checksum(rest)) + rest[4:]
        else:
            flags = 0x10 if kind == "ack" else 2
            protocol, rest = 6, struct.pack("!IIBBHHH", chance.randrange(2**32), 0, 0x50, flags, 65535, 0, 0)
            pseudo = src + dst + struct.pack("!BBH", 0, 6, 20) + ports + rest
            rest = rest[:12] + struct.pack("!H", checksum(pseudo)) + rest[14:]
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(ports + rest), number, 0, 64, protocol, 0) + src + dst
        ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
        whole = bytearray(ethernet + ip + ports + rest)
        if kind == "mutated":
            for _ in range(chance.randrange(1, 6)):
                whole[chance.randrange(12, len(whole))] = chance.randrange(256)
            whole = whole[:chance.randrange(14, len(whole) + 1)] if chance.randrange(4) == 0 else whole
        return bytes(whole)
    frames = [frame() for _ in range(10_000)]
    print("flooding", flush=True)
    begun, sent = time.monotonic(), 0
    while time.monotonic() - begun < float(seconds):
        if kind == "mutated" and sent:
            frames = [frame() for _ in range(10_000)]
        for one in frames:
            try:
                s.send(one)
                sent += 1
            except OSError:
                pass
    print(sent, "sent", flush=True)

def strangers(link, via, target, port):
    s, me = raw(link), mac(link)
    ethernet = bytes.fromhex(via.replace(":", "")) + me + b"\x08\0"
    print("flooding", flush=True)
    n = 0
    while True:
        n += 1
        udp = struct.pack("!HHHH", 1024 + n % 60000, int(port), 12, 0) + b"hell"
        ends = bytes([203, 0, 113, 1 + n // 60000 % 250]) + socket.inet_aton(target)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 32, n & 0xFFFF, 0, 64, 17, 0)
        head = head[:10] + struct.pack("!H", checksum(head + ends)) + ends
        try:
            s.send(ethernet + head + udp)
        except OSError:
            pass

def pty(*command):
    import pty
    sys.exit(os.waitstatus_to_exitcode(pty.spawn(list(command))))

def fill(directory):
    try:
        with open(os.path.join(directory, "filler"), "wb", buffering=0) as f:
            while True:
                f.write(b"x" * 65536)
    except OSError:
        pass

if __name__ == "__main__":
    name = sys.argv[1].replace("-", "_")
    try:
        globals()[name](*sys.argv[2:])
    except (OSError, TimeoutError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
