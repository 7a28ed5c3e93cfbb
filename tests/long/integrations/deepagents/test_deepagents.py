"""LangChain's own tests of a sandbox backend, over libsbx_deepagents: of an ordinary user of an image that INTEGRATION_ROOT,
the archive of a Debian root, is made into."""

import os

import libsbx
import pytest
from langchain_tests.integration_tests import SandboxIntegrationTests
from libsbx_deepagents import SbxSandbox


class TestSbxSandbox(SandboxIntegrationTests):
    @pytest.fixture(scope="class")
    def sandbox(self):
        image = libsbx.Image.from_path(os.environ["INTEGRATION_ROOT"])
        image = image.run_commands("ln -sf python3 /usr/bin/python", "useradd --create-home agent")
        with libsbx.Sandbox.create(image=image, user="agent", block_network=True) as sandbox:
            yield SbxSandbox(sandbox, user="agent")
