"""The policy once more, from the specification and not from the library: standard Python's ipaddress is the judge.

Each line of standard input is a policy in JSON: {"mode": "open" or "allowlist", "allow": [...], "deny": [...]}.
Each is answered by a line: a list of [address, reason, rule], for the edges of every entry and of every special
range, the addresses one before and one behind them, and some more. Addresses are numbers as text, for IPv6 with a
"6:" in front, so that no reading of addresses is shared either.
"""

import ipaddress
import json
import sys

net, addr = ipaddress.ip_network, ipaddress.ip_address

# What an entry may open from inside: IANA's special-purpose registries, and providers' internal services.
PROTECTED = """
10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 161.26.0.0/16 166.8.0.0/14 169.254.0.0/16 172.16.0.0/12
192.0.0.0/24 192.0.2.0/24 192.31.196.0/24
192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24
::1/128 2001::/23 2001:db8::/32 2620:4f:8000::/48 3fff::/20 fc00::/7
""".split()
# What nothing opens.
NEVER = """
0.0.0.0/8 192.0.0.0/29 224.0.0.0/4 240.0.0.0/4
::/8 100::/8 200::/7 400::/6 800::/5 1000::/4 64:ff9b::/96 64:ff9b:1::/48 2001::/32 2002::/16 4000::/2 8000::/1
fd73:6278:6e65::/64 fe80::/10 fec0::/10 ff00::/8
""".split()
METADATA = """
169.254.169.254 169.254.170.2 169.254.170.23 169.254.169.253 169.254.169.123 168.63.129.16 100.100.100.200
192.0.0.192 169.254.0.23 169.254.42.42
fd00:ec2::254 fd00:ec2::23 fd00:ec2::253 fd20:ce::254 fd00:42::42 fd00:c1::a9fe:a9fe fd00:a9fe:a9fe::1
""".split()

SPECIAL = [(net(text), True) for text in PROTECTED] + [(net(text), False) for text in NEVER]
METADATA = {addr(text) for text in METADATA}


def innermost(address):
    around = [(ranges, openable) for ranges, openable in SPECIAL if address in ranges]
    return max(around, key=lambda found: found[0].prefixlen, default=(None, None))


def verdict(policy, address):
    for number, entry in policy["denied"]:
        if address in entry:
            # Of several the narrowest is named, of equal ones the first.
            return "Denied", narrowest(policy["denied"], address)
    special, openable = classes(address)
    metadata = address in METADATA
    if special is not None and not openable and not metadata:
        return "Reserved", None
    # The opening entries: those that lie inside of what has to be opened, and around the address.
    whole = net(address)
    if metadata:
        opening, refused = [(n, e) for n, e in policy["allowed"] if e == whole], "Metadata"
    elif special is not None:
        inside = [(n, e) for n, e in policy["allowed"] if e.version == special.version and e.subnet_of(special)]
        opening, refused = inside, "Protected"
    elif policy["mode"] == "open":
        return "Open", None
    else:
        opening, refused = policy["allowed"], "NotListed"
    rule = narrowest(opening, address)
    return (refused, None) if rule is None else ("Listed", rule)


def narrowest(entries, address):
    around = [(entry.prefixlen, -number) for number, entry in entries if address in entry]
    return -max(around)[1] if around else None


known = {}


def classes(address):
    if address not in known:
        special, _ = known[address] = innermost(address)
        if special is None and address not in METADATA:
            # Python's own tables have no objection either.
            assert address.is_global and not address.is_multicast, address
    return known[address]


def edges(ranges):
    for entry in ranges:
        first, last = int(entry.network_address), int(entry.broadcast_address)
        make = type(entry.network_address)
        most = (1 << entry.max_prefixlen) - 1
        for number in (first - 1, first, first + 1, (first + last) // 2, last - 1, last, last + 1):
            if 0 <= number <= most:
                yield make(number)


SPECIAL_POINTS = set(edges(ranges for ranges, _ in SPECIAL)) | set(edges(net(one) for one in METADATA))


def name(address):
    return ("6:" if address.version == 6 else "") + str(int(address))


for line in sys.stdin:
    policy = json.loads(line)
    policy["allowed"] = list(enumerate(map(net, policy["allow"])))
    start = len(policy["allow"])
    policy["denied"] = [(start + number, net(text)) for number, text in enumerate(policy["deny"])]
    entries = [entry for _, entry in policy["allowed"] + policy["denied"]]
    # Addresses with IPv4 inside are IPv4 wherever the library meets them.
    points = {p for p in SPECIAL_POINTS | set(edges(entries)) if p.version == 4 or p.ipv4_mapped is None}
    print(json.dumps([(name(point), *verdict(policy, point)) for point in points]), flush=True)
