"""README's table of what each language's package offers, made from the packages themselves.

python3 tests/bindings/features.py compares it; SBX_BLESS=1 in the environment writes it. A package has a feature if it
calls the header's functions behind it and has the name under which a program finds it.
"""

import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "abi"))
import header  # noqa: E402

# What a feature is, the functions behind it (a|b: either), and its name in C++, Go, Node and Python; - where it is not
# there, = before one that the package has without the library's functions.
FEATURES = """
create, wait, signal, stop, end: create|create_begin wait|queue_next signal stop terminate
    sandbox Create create create
programs in a sandbox: exec|exec_begin process_signal exec_config_set_user
    exec Exec exec exec
their terminals: exec_config_set_pty process_resize
    terminal Terminal terminal pty
streams: config_set_stream sandbox_open_fd exec_config_set_stream process_open_fd
    pipe Pipes stdout stdout
captured output: exec_config_capture_stream process_capture capture_output
    capture - - Capture
readiness: config_set_tcp_probe config_set_exec_probe wait_ready
    tcp_probe Probe readinessProbe readiness_probe
files: file_read_begin file_write_begin file_list_begin file_stat_begin file_make_directory_begin file_remove_begin \
    file_rename_begin
    read_file Files files filesystem
trees as tar archives: file_copy_in_begin file_copy_out_begin
    copy_in CopyIn copyIn copy_tree_from_local
changes of files: file_watch_begin operation_next_change
    watch Watch watch watch
tunnels: config_add_port tunnels
    tunnels Tunnels tunnels tunnels
tunnels for other machines: config_bind_port config_set_inbound_cidr_allowlist
    bind_port Bind bindPorts bind_ports
certificates of your own: config_set_tls_certificate
    tls_certificate CertPEM tlsCertificate tls_certificate
further names of the certificate: config_add_tls_name
    tls_name TLSNames tlsNames tls_names
how fast tunnels take connections: config_set_tunnel_rate
    tunnel_rate TunnelRate tunnelRate tunnel_rate
connections without a port: connect|connect_begin
    connect Dial connect connect
services of the host: config_add_host_service
    host_service HostServices hostServices host_services
policies: policy_new policy_allow_cidr policy_deny_cidr \
    policy_allow_domain policy_allow_local_cidr config_set_policy
    policy Policy outboundCidrAllowlist outbound_cidr_allowlist
policies that change: set_policy|set_policy_begin
    set_policy SetPolicy setPolicy set_network_policy
policies read back: sandbox_policy|sandbox_policy_begin policy_info policy_entry policy_domain_port
    entries ReadPolicy Policy get_network_policy
TLS ports of domains: policy_add_domain_port
    tls_port TLSPorts outboundTlsPorts outbound_tls_ports
which names are answered: policy_set_dns
    dns DNS outboundDns outbound_dns
what a policy says of an address: policy_check
    check Check checkPolicy check_network_policy
names of reasons of denials: =reasons
    reason_name PolicyReason PolicyReason PolicyReason
name servers: config_add_nameserver
    nameserver Nameservers nameservers nameservers
budgets of what leaves: config_set_egress_limits
    egress_limits EgressLimits egressLimits egress_limits
host name: config_set_hostname
    hostname Hostname hostname hostname
tags: config_set_tag
    tag Tags tags =tags
MTU: config_set_mtu
    mtu MTU mtu mtu
limits of memory, processor, disk, processes: config_set_memory_bytes config_set_millicpus config_set_disk_bytes \
    config_set_max_processes config_set_max_open_files config_set_limit_mode
    memory Memory memoryMiB memory
what a sandbox uses: sandbox_stats|sandbox_stats_begin
    stats Stats stats stats
sandboxes that are kept warm: runtime_keep_warm runtime_warm_stats
    keep_warm KeepWarm keepWarm keep_warm
how many sandboxes start at once: runtime_set_max_starts runtime_max_starts
    set_max_starts SetMaxStarts setMaxStarts set_max_starts
spares, sandboxes that are started in part: runtime_set_spares runtime_spares
    set_spares SetSpares setSpares set_spares
events: queue_next
    queue Events events denials
the doctor: runtime_check|runtime_check_begin report_finding report_json
    check Doctor doctor doctor
the library's log: log_set_fd
    log_to LogTo logTo log_to
finding and listing sandboxes: sandbox_find|runtime_sandboxes
    find Find find =from_name
runtimes beside the default one: runtime_new
    runtime Runtime Runtime Runtime
images pulled from a registry: image_pull_begin config_set_image
    pull_image PullImage pullImage from_registry
images imported from files: image_import_begin
    import_image ImportImage importImage from_path
images built from a Dockerfile: image_build_begin build_set_dockerfile
    build_image BuildImage buildImage from_dockerfile
what of a build's context is left out: build_set_ignore
    ignore Ignore ignore ignore
the store of images: image_find_begin image_list_begin image_tag_begin image_remove_begin image_prune_begin
    find_image FindImage findImage from_name
snapshots of a sandbox as images: sandbox_snapshot_begin
    snapshot Snapshot snapshot snapshot_filesystem
snapshots of a directory as images: sandbox_snapshot_directory_begin
    snapshot_directory SnapshotDirectory snapshotDirectory snapshot_directory
snapshots at a sandbox's end: config_set_exit_snapshot sandbox_exit_image
    exit_image ExitImage exitImage get_exit_snapshot
images copied into a sandbox that runs: sandbox_copy_image_begin
    copy_image CopyImage copyImage mount_image
images mounted in a sandbox: config_add_image_mount
    mount_image ImageMounts imageMounts image_mounts
volumes: volume_create_begin volume_find_begin volume_list_begin volume_remove_begin config_add_volume
    mount_volume VolumeMount VolumeMount Volume
"""

# What no row is about: what every package needs to begin and free things, and what the rows above include.
OTHERS = re.compile(
    r".*_(free|new|check|begin|failure|state|id|set_queue)|queue_open_fd|version|abi_version|(config|exec_config|build)_(set"
    r"|capture|add)_.*|file_.*|operation_.*|tunnel_map_.*|sandbox_list_.*|report_(usable|count)|process_(wait|state|name)"
    r"|sandbox_(name|tag|capture|open_fd)|wait|image_(info|list_count|list_entry)|volume_list_(count|entry)"
)

# A package's sources, and which of them say what programs find.
PACKAGES = {
    "C++": ("cpp", "*.hpp", "*.hpp"),
    "Go": ("go", "*.go", "*.go"),
    "Node": ("node", "*.js", "*.d.ts"),
    "Python": ("python", "libsbx/**/*.py", "libsbx/**/*.py"),
}
BEGIN, END = "<!-- Made by tests/bindings/features.py: -->\n", "<!-- until here -->\n"


class Package:
    def __init__(self, language):
        directory, sources, public = PACKAGES[language]
        self.sources, self.public = (self._read(directory, pattern) for pattern in (sources, public))
        self.calls = "C\\.sbx_{}\\b" if language == "Go" else "\\bsbx_{}\\b" if language == "C++" else None
        # Names that are put together: "set_" + name, `add_${kind}_port`.
        found = re.findall(r"""["'`]([a-z_]*)\$?\{[^{}]*\}([a-z_]*)["'`]""", self.sources)
        self._parts = {*found, *((start, "") for start in re.findall(r'"([a-z_]+_)" \+', self.sources))} - {("", "")}

    @staticmethod
    def _read(directory, pattern):
        files = sorted((header.TOP / "examples" / directory).glob(pattern))
        mine = [file for file in files if not re.fullmatch(r"abi\.\w+|.*_test\.go|http_server\.js", file.name)]
        # What is said in comments isn't offered.
        return re.sub(r"^\s*(//|#(?!include)).*$", "", "\n".join(file.read_text() for file in mine), flags=re.MULTILINE)

    def has_word(self, word):
        return re.search(rf"\b{re.escape(word)}\b", self.public) is not None

    def has_reasons(self, sbx):
        """Whether each of the header's reasons of denials has its name, which may be taken from the header's."""
        names = [name for name, number in sbx.numbers.items() if name.startswith("REASON_") and number < 0]
        camel = [re.sub("_(.)", lambda found: found[1].upper(), name[7:].lower()) for name in names]
        return all(f"SBX_{name}" in self.sources for name in names) or all(
            re.search(rf'\b{name[7:]} = |"{alike}"', self.public) for name, alike in zip(names, camel)
        )

    def uses(self, function):
        if self.calls is not None:
            return re.search(self.calls.format(function), self.sources) is not None
        if re.search(rf"""\b(native\.|library\.sbx_){function}\b|["'`]{function}["'`]""", self.sources):
            return True
        # Of a handle's own kind: set("add_nameserver", ...). exec_config's aren't taken for config's where a row has both.
        kind = re.match("exec_config|config|build|policy|tunnel_map|operation|report|process|sandbox|capture|file", function)
        rest = function[kind.end() + 1 :] if kind else function
        if kind and re.search(rf"""["'`]{rest}["'`]""", self.sources):
            return True
        for name in {rest, function}:
            for start, end in self._parts:
                middle = name[len(start) : len(name) - len(end)] if name.startswith(start) and name.endswith(end) else ""
                if middle and re.search(rf"""["'` ]{middle}["'` ]|\b{middle}[=:]""", self.sources):
                    return True
        return False


def rows():
    lines = iter(FEATURES.replace("\\\n   ", "").strip().splitlines())
    for line in lines:
        feature, functions = line.split(": ")
        yield feature, functions.split(), next(lines).split()


def table(sbx):
    packages = [Package(language) for language in PACKAGES]
    covered = set()
    yield f"| | {' | '.join(PACKAGES)} |\n|---|{'---|' * len(PACKAGES)}\n"
    for feature, functions, names in rows():
        cells = []
        for package, name in zip(packages, names):
            own = name.startswith("=")
            name = name.lstrip("=")
            called = own or all(
                package.has_reasons(sbx) if each == "=reasons" else any(map(package.uses, each.split("|")))
                for each in functions
            )
            cells.append(f"`{name}`" if called and package.has_word(name) else "–")
        yield f"| {feature} | {' | '.join(cells)} |\n"
        covered.update(one for each in functions for one in each.split("|"))
    unknown = covered - set(sbx.functions) - {"=reasons"}
    missed = [name for name in sbx.functions if name not in covered and not OTHERS.fullmatch(name)]
    if unknown or missed:
        sys.exit(f"{__file__}: no functions of the header: {sorted(unknown)}; in no row: {missed}")


def main():
    made = "".join(table(header.read()))
    file = header.TOP / "README.md"
    text = file.read_text()
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    if os.environ.get("SBX_BLESS"):
        file.write_text(text[:start] + made + text[end:])
    elif text[start:end] != made:
        different = sorted({*made.splitlines()} ^ {*text[start:end].splitlines()})
        sys.exit(
            "README.md's table of languages is not what the packages offer; write it with SBX_BLESS=1 "
            f"python3 {sys.argv[0]}. These lines differ:\n" + "\n".join(different)
        )


if __name__ == "__main__":
    main()
