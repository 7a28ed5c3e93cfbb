"""libsbx by ctypes, as much of it as the tests of this directory need."""

import ctypes
import json
import os
import pathlib
import select
import time

lib = ctypes.CDLL("libsbx.so")
pointer = ctypes.c_void_p
HERE = pathlib.Path(__file__).parent


class Error(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint32),
        ("code", ctypes.c_int32),
        ("os_error", ctypes.c_int32),
        ("reserved", ctypes.c_uint32),
        ("message", ctypes.c_char * 496),
    ]


class Event(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint32),
        ("kind", ctypes.c_uint32),
        ("cookie", ctypes.c_uint64),
        ("sequence", ctypes.c_uint64),
        ("time_ms", ctypes.c_int64),
        ("lost", ctypes.c_uint64),
        ("code", ctypes.c_int32),
        ("reason", ctypes.c_int32),
        ("entry", ctypes.c_int32),
        ("protocol", ctypes.c_uint32),
        ("port", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("address", ctypes.c_char * 64),
        ("detail", ctypes.c_char * 280),
        ("value", ctypes.c_uint64 * 2),
    ]


class Stats(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint32),
        ("known", ctypes.c_uint32),
        ("uptime_ms", ctypes.c_int64),
        ("cpu_us", ctypes.c_int64),
        ("memory_bytes", ctypes.c_uint64),
        ("memory_peak_bytes", ctypes.c_uint64),
        ("processes", ctypes.c_uint32),
        ("tunnel_connections", ctypes.c_uint32),
        ("tunnel_connections_total", ctypes.c_uint64),
        ("tunnel_bytes_in", ctypes.c_uint64),
        ("tunnel_bytes_out", ctypes.c_uint64),
        ("egress_flows", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("egress_flows_total", ctypes.c_uint64),
        ("egress_bytes_in", ctypes.c_uint64),
        ("egress_bytes_out", ctypes.c_uint64),
        ("egress_denied", ctypes.c_uint64),
        ("dns_queries", ctypes.c_uint64),
        ("dns_refused", ctypes.c_uint64),
        ("library_us", ctypes.c_int64),
    ]


class Tunnel(ctypes.Structure):
    """sbx_tunnel."""

    _fields_ = [
        ("size", ctypes.c_uint32),
        ("kind", ctypes.c_int32),
        ("container_port", ctypes.c_uint32),
        ("port", ctypes.c_uint32),
        ("host", ctypes.c_char_p),
        ("url", ctypes.c_char_p),
        ("ca_pem", ctypes.c_char_p),
        ("spki_sha256", ctypes.c_char_p),
    ]


class Summary(ctypes.Structure):
    """sbx_policy_summary."""

    _fields_ = [
        ("size", ctypes.c_uint32),
        ("mode", ctypes.c_int32),
        ("dns", ctypes.c_int32),
        ("entry_count", ctypes.c_uint32),
        ("domain_port_count", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    ]


FAILED, EXITED, DENIED, APPLIED, LIMIT, UNREACHABLE = 2, 4, 6, 7, 8, 12
OPEN, LISTED, BLOCKED, DENY, NOT_LISTED, PROTECTED, METADATA, HOST = 1, 2, -1, -2, -3, -4, -5, -6

for name, result in {
    "sbx_policy_entry": ctypes.c_char_p,
    "sbx_policy_free": None,
    "sbx_config_free": None,
    "sbx_sandbox_free": None,
    "sbx_queue_free": None,
    "sbx_operation_free": None,
    "sbx_tunnel_map_free": None,
}.items():
    getattr(lib, name).restype = result


class Failure(Exception):
    """An error of the library: its code and text."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


def call(name, *arguments):
    """A call whose last parameter is the error."""
    error = Error()
    result = getattr(lib, name)(*arguments, ctypes.byref(error))
    if result < 0:
        raise Failure(result, error.message.decode())
    return result


def policy(mode, allow=(), deny=()):
    made = pointer()
    call("sbx_policy_new", 1 + ["open", "allowlist", "blocked"].index(mode), ctypes.byref(made))
    for entry in allow:
        assert lib.sbx_policy_allow_cidr(made, entry.encode()) == 0, entry
    for entry in deny:
        assert lib.sbx_policy_deny_cidr(made, entry.encode()) == 0, entry
    return made


class Sandbox:
    """A sandbox with an agent inside, that may reach what the policy says."""

    def __init__(self, rules, prepare=lambda config: None):
        self.queue, self.seen = pointer(), []
        call("sbx_queue_new", 65536, ctypes.byref(self.queue))
        config = pointer()
        call("sbx_config_new", ctypes.byref(config))
        command = [b"/usr/bin/python3", b"-I", b"-c", (HERE / "agent.py").read_bytes()]
        words = (ctypes.c_char_p * len(command))(*command)
        checks = [
            lib.sbx_config_set_command(config, words, ctypes.c_size_t(len(command))),
            lib.sbx_config_set_queue(config, self.queue, ctypes.c_uint64(77)),
            lib.sbx_config_set_timeout_ms(config, ctypes.c_int64(3600_000)),
            lib.sbx_config_set_stream(config, 0, 1),
            lib.sbx_config_set_stream(config, 1, 1),
            lib.sbx_config_set_stream(config, 2, 2),
        ]
        if rules is not None:
            checks.append(lib.sbx_config_set_policy(config, rules))
            lib.sbx_policy_free(rules)
        prepare(config)
        assert checks == [0] * len(checks), checks
        self.handle = pointer()
        try:
            call("sbx_create", None, config, ctypes.byref(self.handle))
        finally:
            lib.sbx_config_free(config)
        self.input = call("sbx_sandbox_open_fd", self.handle, 0)
        self.output = call("sbx_sandbox_open_fd", self.handle, 1)
        self.rest = b""
        self.asked = 1
        assert self.answer() == "ready"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        call("sbx_terminate", self.handle)
        call("sbx_wait", self.handle, ctypes.c_int64(30000), None)
        os.close(self.input)
        os.close(self.output)
        lib.sbx_sandbox_free(self.handle)
        lib.sbx_queue_free(self.queue)

    def begin(self, *words):
        os.write(self.input, (json.dumps(words) + "\n").encode())

    def answer(self, patience=120):
        while b"\n" not in self.rest:
            if not select.select([self.output], [], [], patience)[0]:
                raise SystemExit("the agent doesn't answer")
            more = os.read(self.output, 65536)
            if not more:
                raise SystemExit(f"the agent has ended: {self.rest!r}")
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        try:
            return json.loads(line)
        except ValueError:
            raise SystemExit((line + b"\n" + self.rest).decode()) from None

    def ask(self, *words):
        """Has the agent do something."""
        self.begin(*words)
        return self.answer()

    def events(self):
        """What the library has told since the last look."""
        event, told = Event(), []
        while lib.sbx_queue_next(self.queue, ctypes.byref(event), None) == 1:
            told.append({name: getattr(event, name) for name, _ in Event._fields_} | {"value": tuple(event.value)})
        self.seen += told
        return told

    def wait_for(self, kind, which=lambda event: True, patience=10):
        """The first event of that kind that was not waited for before."""
        until = time.monotonic() + patience
        while True:
            self.events()
            for index, event in enumerate(self.seen):
                if event["kind"] == kind and which(event):
                    return self.seen.pop(index)
            if time.monotonic() > until:
                raise SystemExit(f"no event {kind}; there were {self.seen}")
            time.sleep(0.01)

    def stats(self):
        stats = Stats()
        call("sbx_sandbox_stats", self.handle, ctypes.byref(stats))
        return stats

    def tunnel(self, port):
        """Where that port of the sandbox is reached."""
        tunnels = pointer()
        call("sbx_tunnels", self.handle, ctypes.c_int64(30000), ctypes.byref(tunnels))
        found, index = Tunnel(), 0
        while found.container_port != port:
            assert lib.sbx_tunnel_map_tunnel(tunnels, ctypes.c_size_t(index), ctypes.byref(found)) == 0, port
            index += 1
        lib.sbx_tunnel_map_free(tunnels)
        return "127.0.0.1", found.port

    def policy(self):
        """What is in force: the entries, and the generation."""
        copy, generation = pointer(), ctypes.c_uint64()
        call("sbx_sandbox_policy", self.handle, ctypes.byref(copy), ctypes.byref(generation))
        said = Summary()
        assert lib.sbx_policy_info(copy, ctypes.byref(said)) == 0
        entries = [lib.sbx_policy_entry(copy, ctypes.c_size_t(index)).decode() for index in range(said.entry_count)]
        lib.sbx_policy_free(copy)
        return entries, generation.value

    def begin_to_set_policy(self, rules, cookie):
        """Begins to change what it may reach; the end is an event."""
        change = pointer()
        call("sbx_set_policy_begin", self.handle, rules, self.queue, ctypes.c_uint64(cookie), ctypes.byref(change))
        lib.sbx_operation_free(change)

    def set_policy(self, rules):
        """Changes what it may reach, at once; the generation."""
        generation = ctypes.c_uint64()
        try:
            call("sbx_set_policy", self.handle, rules, ctypes.byref(generation))
        finally:
            lib.sbx_policy_free(rules)
        return generation.value
