"""A Debian root with postgresql, as its own user: initdb and pgbench inside, psql outside, through a tunnel.

    postgresql.py ARCHIVE

Needs `psql` on this machine, and PYTHONPATH with the package.
"""

import subprocess
import sys
import time

import libsbx as sbx

DATA = "/var/lib/postgresql/data"
SECONDS = 180


def run(sandbox, *command, user="postgres"):
    process = sandbox.exec(*command, user=user, timeout=SECONDS)
    output = process.stdout.read()
    code = process.wait()
    assert code == 0, f"{command}: {code}: {output}{process.stderr.read()}"
    return output


def psql(tunnel, question):
    host, port = tunnel.tcp_socket
    return subprocess.run(
        ("psql", "--no-psqlrc", "-h", host, "-p", str(port), "-U", "postgres", "-At", "-c", question),
        check=True, capture_output=True, text=True, timeout=SECONDS, env={"PATH": "/usr/bin:/bin"},
    ).stdout.strip()


def main(archive):
    image = sbx.Image.from_path(archive)
    with sbx.Sandbox.create("sleep", "infinity", image=image, unencrypted_ports=[5432],
                            timeout=600) as sandbox:
        # The account and its directory are as Debian's package made them.
        owner = run(sandbox, "stat", "-c", "%U:%G %a", "/var/lib/postgresql").strip()
        assert owner == "postgres:postgres 755", owner
        identity = run(sandbox, "id", "-un").strip()
        assert identity == "postgres", identity
        programs = run(sandbox, "sh", "-c", "echo /usr/lib/postgresql/*/bin").strip()
        run(sandbox, f"{programs}/initdb", "-D", DATA, "--auth=trust", "--no-sync")
        run(sandbox, "sh", "-c", f"printf 'host all all all trust\\n' >>{DATA}/pg_hba.conf")
        server = sandbox.exec(f"{programs}/postgres", "-D", DATA, "-c", "listen_addresses=*", "-c", "unix_socket_directories=/tmp",
                              user="postgres")
        began = time.monotonic()
        while sandbox.exec(f"{programs}/pg_isready", "-q", "-h", "127.0.0.1", user="postgres").wait() != 0:
            assert server.poll() is None, server.stderr.read()
            assert time.monotonic() - began < SECONDS, "the server isn't ready"
        # Data directories of another user are refused by the server; this one isn't.
        assert run(sandbox, "stat", "-c", "%U %a", DATA).strip() == "postgres 700"
        tunnel = sandbox.tunnels()[5432]
        version = psql(tunnel, "SHOW server_version")
        run(sandbox, f"{programs}/pgbench", "-q", "-i", "-h", "127.0.0.1", "postgres")
        bench = run(sandbox, f"{programs}/pgbench", "-c", "4", "-t", "100", "-h", "127.0.0.1", "postgres")
        assert "number of transactions actually processed: 400/400" in bench, bench
        counted = psql(tunnel, "SELECT count(*), sum(delta) IS NOT NULL FROM pgbench_history")
        assert counted == "400|t", counted
        print(f"postgresql {version}: 400 transactions of pgbench, counted by psql through the tunnel")


main(*sys.argv[1:])
