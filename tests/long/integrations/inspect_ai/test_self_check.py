"""Inspect's own conformance checks (inspect_ai.util._sandbox.self_check), all of them and unchanged.

SBX_TEST_ROOT names the archive of a root file system with adduser and ps.
"""

import os

import pytest
import pytest_asyncio

import libsbx as sbx
from inspect_ai.util._sandbox.registry import registry_find_sandboxenv
from inspect_ai.util._sandbox.self_check import *  # noqa: F403

DOCKERFILE = """FROM self-check-root
RUN useradd --create-home agent
USER agent
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory):
    await sbx.Image.from_path(os.environ["SBX_TEST_ROOT"], tag="self-check-root").pull.aio()
    dockerfile = tmp_path_factory.mktemp("image") / "Dockerfile"
    dockerfile.write_text(DOCKERFILE)
    # As Inspect does it: the provider is found by its entry point.
    provider = registry_find_sandboxenv("libsbx")
    config = provider.config_deserialize({"dockerfile": str(dockerfile), "workdir": "/home/agent"})
    await provider.task_init("self_check", config)
    environments = await provider.sample_init("self_check", config, {})
    yield environments["default"]
    await provider.sample_cleanup("self_check", config, environments, False)


@pytest.fixture
def sandbox_env(shared):
    return shared
