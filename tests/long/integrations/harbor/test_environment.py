"""The environment, by Harbor's own calls: of a task whose Dockerfile is built on INTEGRATION_ROOT, the archive of a Debian
root, and at the end a whole trial by Harbor's job."""

import asyncio
import os
import time

import libsbx
import pytest
from harbor.job import Job
from harbor.models.job.config import JobConfig
from harbor.models.task.config import EnvironmentConfig, NetworkMode, NetworkPolicy
from harbor.models.trial.paths import TrialPaths
from libsbx_harbor import SbxEnvironment

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOT = "harbor-test-root"
DOCKERFILE = f"""FROM {ROOT}
RUN useradd --create-home agent && echo built > /built
COPY given.txt /work/given.txt
ENV FROM_IMAGE=yes
WORKDIR /work
ENTRYPOINT ["no-such-program"]
"""


@pytest.fixture(scope="module")
def root():
    libsbx.Image.from_path(os.environ["INTEGRATION_ROOT"], tag=ROOT).pull()


@pytest.fixture
def directory(root, tmp_path):
    directory = tmp_path / "environment"
    directory.mkdir()
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (directory / "given.txt").write_text("given\n")
    return directory


@pytest.fixture
def made(directory, tmp_path):
    """A maker of environments; what it made is stopped."""
    environments = []

    def make(task=None, **options):
        paths = TrialPaths(tmp_path / "trial")
        paths.mkdir()
        environment = SbxEnvironment(
            environment_dir=directory, environment_name="test", session_id=f"test__{len(environments)}__env",
            trial_paths=paths, task_env_config=task or EnvironmentConfig(), **options,
        )  # fmt: skip
        environments.append(environment)
        return environment

    yield make
    for environment in environments:
        if environment._sandbox is not None:
            environment._sandbox.close()


async def run(environment, command, **options):
    result = await environment.exec(command, **options)
    assert result.return_code == 0, result
    return result.stdout


async def test_commands(made):
    environment = made(EnvironmentConfig(env={"FROM_TASK": "${HOME}"}), persistent_env={"FROM_TRIAL": "yes"})
    await environment.start(force_build=False)
    said = await run(environment, "pwd; cat /built given.txt; echo $FROM_IMAGE $FROM_TASK $FROM_TRIAL; id -un")
    assert said == f"/work\nbuilt\ngiven\nyes {os.environ['HOME']} yes\nroot\n"
    assert "gvisor" in (await run(environment, "cat /proc/version")).lower()
    failed = await environment.exec("echo out; echo err >&2; exit 7")
    assert (failed.stdout, failed.stderr, failed.return_code) == ("out\n", "err\n", 7)
    assert await run(environment, "words=(a b); echo ${words[1]} $X; pwd", cwd="/tmp", env={"X": "x"}) == "b x\n/tmp\n"
    assert await run(environment, "id -un", user="agent") == "agent\n"
    with environment.with_default_user("agent"):
        assert await run(environment, "id -un") == "agent\n"
        assert await run(environment, "id -u", user=0) == "0\n"
    assert (await environment.exec("true")).stdout is None


async def test_commands_have_a_time_and_leave_nothing_to_wait_for(made):
    environment = made()
    await environment.start(force_build=False)
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match="timed out after 1 seconds"):
        await environment.exec("sleep 1000", timeout_sec=1)
    assert await run(environment, "sleep 1000 & echo gone") == "gone\n"
    assert time.monotonic() - begun < 20


async def test_output_is_told_of_and_bounded(made):
    environment = made()
    await environment.start(force_build=False)
    heard = []

    async def callback(text, stream):
        heard.append((stream, text))

    with environment.scoped_output_callback(callback):
        running = asyncio.ensure_future(environment.exec("echo é; until test -e /tmp/go; do sleep 0.1; done; echo e >&2"))
        while not heard:
            await asyncio.sleep(0.05)
        assert heard == [("stdout", "é\n")]
    await run(environment, "touch /tmp/go")
    assert (await running).stdout == "é\n" and heard[1:] == [("stderr", "e\n")]
    much = await run(environment, "echo first; yes | head -c 20000000; echo last")
    assert much.startswith("[") and much.endswith("last\n") and len(much) < 17 << 20


async def test_files(made, tmp_path):
    environment = made()
    await environment.start(force_build=False)
    script = tmp_path / "script.sh"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o755)
    await environment.upload_file(script, "/new/place/script.sh")
    assert await run(environment, "/new/place/script.sh") == "ran\n"
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "a.txt").write_text("a\n")
    await environment.upload_dir(tree, "/uploaded")
    assert await run(environment, "cat /uploaded/deep/a.txt") == "a\n"
    assert await environment.is_dir("/uploaded/deep") and await environment.is_file("/uploaded/deep/a.txt")
    large = "head -c 30000000 /dev/urandom > /uploaded/large; ln -s deep/a.txt /uploaded/link; md5sum /uploaded/large"
    await run(environment, large)
    await environment.download_file("/uploaded/deep/a.txt", tmp_path / "got" / "a.txt")
    assert (tmp_path / "got" / "a.txt").read_text() == "a\n"
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("mine\n")
    (target / "link").mkdir()
    await environment.download_dir("/uploaded", target)
    assert (target / "large").stat().st_size == 30_000_000 and (target / "link").read_text() == "a\n"
    assert (target / "mine").read_text() == "mine\n" and (target / "link").is_symlink()
    with pytest.raises(FileNotFoundError):
        await environment.download_dir("/missing", tmp_path / "other")
    await environment.download_dir_with_exclusions(source_dir="/uploaded", target_dir=tmp_path / "less", exclude=["large"])
    assert not (tmp_path / "less" / "large").exists() and (tmp_path / "less" / "deep" / "a.txt").exists()


async def test_a_link_that_was_downloaded_is_not_followed_later(made, tmp_path):
    environment = made()
    await environment.start(force_build=False)
    target = tmp_path / "target"
    await run(environment, "mkdir /logs2 && cd /logs2 && mkdir real && echo kept > real/file && ln -s real/file file && ln -s real dir")
    await environment.download_dir("/logs2", target)
    await run(environment, "cd /logs2 && rm file dir && echo evil > file && mkdir dir && echo evil > dir/file")
    await environment.download_dir("/logs2", target)
    assert (target / "real" / "file").read_text() == "kept\n"
    assert (target / "file").read_text() == "evil\n" and not (target / "dir").is_symlink()


async def test_directories_of_the_host(made, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "file").write_text("host\n")
    mounts = [
        {"type": "bind", "source": str(shared), "target": "/shared"},
        {"type": "bind", "source": str(shared), "target": "/read", "read_only": True},
    ]
    environment = made(mounts=mounts, auto_mounting=True)
    await environment.start(force_build=False)
    await run(environment, "echo more >> /shared/file; echo agent > /logs/agent/log; ! touch /read/x 2>/dev/null")
    assert (shared / "file").read_text() == "host\nmore\n"
    assert (environment.trial_paths.agent_dir / "log").read_text() == "agent\n"
    assert environment.is_path_mounted("/logs/agent", environment.trial_paths.agent_dir)


async def test_limits(made):
    environment = made(EnvironmentConfig(cpus=1.5, memory_mb=512, storage_mb=256))
    await environment.start(force_build=False)
    assert (await environment.exec("head -c 400000000 /dev/zero > /big")).return_code != 0


def test_what_it_cannot_do_is_refused(made, directory):
    with pytest.raises(RuntimeError, match="GPU"):
        made(EnvironmentConfig(gpus=1))
    with pytest.raises(ValueError):
        made(no_such_option=1)
    (directory / "docker-compose.yaml").write_text("services: {}\n")
    with pytest.raises(ValueError, match="Compose"):
        made()


CONNECT = "python3 -c 'import socket; socket.create_connection((\"{}\", {}), timeout=5).close()'"
ALLOWED = ["example.com", "*.example.org", "192.0.2.1", "2001:db8::1", "198.51.100.0/24", "2001:db8:1::/48"]


async def test_every_network_capability_is_there_and_kept(made):
    capabilities = made().capabilities.model_dump()
    network = {name for name in capabilities if "network" in name or name == "disable_internet"}
    assert len(network) == 9 and all(capabilities[name] for name in network)
    allowlist = NetworkPolicy(network_mode=NetworkMode.ALLOWLIST, allowed_hosts=ALLOWED)
    environment = made(network_policy=allowlist, tls_ports=[8443])
    await environment.start(force_build=False)
    said = await environment.sandbox.get_network_policy.aio()
    assert {str(each) for each in said.outbound_domain_allowlist} == {"example.com", "*.example.org"}
    found = {str(each) for each in said.outbound_cidr_allowlist}
    assert found == {"192.0.2.1/32", "2001:db8::1/128", "198.51.100.0/24", "2001:db8:1::/48"}


async def test_the_policy_changes_between_phases(made):
    """Public, then nothing, then what is listed, in one sandbox: what is denied is read from its events."""
    environment = made()
    await environment.start(force_build=False)
    denied = environment.sandbox.denials
    nothing = NetworkPolicy(network_mode=NetworkMode.NO_NETWORK)
    await environment.set_network_policy(nothing)
    assert (await environment.exec(CONNECT.format("8.8.8.8", 53))).return_code != 0
    first = await asyncio.wait_for(anext(denied), 10)
    assert (first.address, first.port) == ("8.8.8.8", 53)
    listed = NetworkPolicy(network_mode=NetworkMode.ALLOWLIST, allowed_hosts=["192.0.2.0/24"])
    await environment.set_network_policy(listed)
    assert environment.network_policy == listed
    said = await environment.sandbox.get_network_policy.aio()
    assert [str(each) for each in said.outbound_cidr_allowlist] == ["192.0.2.0/24"]
    await environment.set_network_policy(NetworkPolicy())
    assert (await environment.sandbox.get_network_policy.aio()).generation == 3


async def test_a_prebuilt_image_gets_the_files_of_the_environment(made, directory):
    (directory / "Dockerfile").unlink()
    environment = made(EnvironmentConfig(docker_image=ROOT, workdir="/tmp"))
    await environment.start(force_build=False)
    assert await run(environment, "cat given.txt; pwd") == "given\n/tmp\n"
    await environment.stop(delete=True)
    await environment.stop(delete=True)


async def test_a_whole_trial(directory, tmp_path, monkeypatch):
    """Harbor's own oracle solves a task, and its verifier is satisfied."""
    monkeypatch.setenv("HARBOR_TELEMETRY", "off")
    task = tmp_path / "task"
    (task / "solution").mkdir(parents=True)
    (task / "tests").mkdir()
    directory.rename(task / "environment")
    (task / "instruction.md").write_text("Write 42 into /work/answer.\n")
    (task / "task.toml").write_text(
        'version = "1.0"\n[environment]\nnetwork_mode = "no-network"\ncpus = 1\nmemory_mb = 512\n'
    )
    (task / "solution" / "solve.sh").write_text("#!/bin/bash\necho 42 > /work/answer\n")
    (task / "tests" / "test.sh").write_text(
        "#!/bin/bash\ngrep -qx 42 /work/answer && test -d /tests && echo 1 > /logs/verifier/reward.txt\n"
    )
    config = JobConfig.model_validate(
        {
            "jobs_dir": str(tmp_path / "jobs"),
            "environment": {"import_path": "libsbx_harbor:SbxEnvironment"},
            "agents": [{"name": "oracle"}],
            "tasks": [{"path": str(task)}],
        }
    )
    result = await (await Job.create(config)).run()
    trials = result.trial_results
    assert len(trials) == 1 and trials[0].exception_info is None, trials
    assert trials[0].verifier_result.rewards == {"reward": 1.0}
