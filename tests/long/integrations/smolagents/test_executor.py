"""The executor by itself, and under a CodeAgent whose model is a script."""

import time
from pathlib import Path

import pytest
import smolagents

from smolagents import CodeAgent, FinalAnswerTool, tool
from smolagents.models import ChatMessage, MessageRole, Model
from smolagents.utils import AgentError
from smolagents_libsbx import LibsbxExecutor


# The final answer, as smolagents defines it in the sandbox, imports PIL and numpy: those of this venv.
PACKAGES = dict(mounts={"/opt/packages": Path(smolagents.__file__).parents[1]}, env={"PYTHONPATH": "/opt/packages"})


@pytest.fixture(scope="module")
def executor():
    executor = LibsbxExecutor(timeout=5, create_kwargs=PACKAGES)
    yield executor
    executor.cleanup()


def test_logs_and_the_last_value(executor):
    output = executor("print('hello')\n1 + 1")
    assert (output.output, output.logs, output.is_final_answer) == ("2", "hello\n", False)


def test_variables_stay(executor):
    executor("kept = [1, 2]")
    assert executor("kept.append(3)\nkept").output == "[1, 2, 3]"


def test_variables_are_sent(executor):
    executor.send_variables({"sent": {"a": (1, b"x"), "b": {2}}})
    assert executor("sent['a'], sent['b']").output == "((1, b'x'), {2})"


def test_errors_have_their_traceback(executor):
    with pytest.raises(AgentError, match=r"before\n(.|\n)*<cell \d+>(.|\n)*1 / 0(.|\n)*ZeroDivisionError"):
        executor("print('before')\n1 / 0")
    with pytest.raises(AgentError, match="SyntaxError"):
        executor("def")


def test_exit_is_an_error_and_the_interpreter_stays(executor):
    with pytest.raises(AgentError, match="SystemExit"):
        executor("stays = 1\nraise SystemExit(3)")
    assert executor("stays").output == "1"


def test_tools_and_the_final_answer(executor):
    @tool
    def double(number: int) -> int:
        """Doubles.

        Args:
            number: what to double
        """
        return 2 * number

    executor.send_tools({"double": double, "final_answer": FinalAnswerTool()})
    assert executor("double(21)").output == "42"
    output = executor("final_answer({'n': double(2), 't': (1, 2)})")
    assert output.is_final_answer and output.output == {"n": 4, "t": (1, 2)}


def test_a_cell_has_a_time_and_variables_stay(executor):
    begun = time.monotonic()
    with pytest.raises(AgentError, match="KeyboardInterrupt"):
        executor("before = 1\nwhile True: pass")
    assert time.monotonic() - begun < 15
    assert executor("before").output == "1"


def test_it_is_in_the_sandbox_without_network(executor):
    assert "gvisor" in executor("open('/proc/version').read()").output.lower()
    with pytest.raises(AgentError, match="OSError|unreachable"):
        executor("import socket; socket.create_connection(('8.8.8.8', 53), timeout=3)")


def test_what_children_write_does_not_disturb(executor):
    assert executor("import os\nos.system('echo noise')").output == "0"


def test_much_output_is_cut_and_a_large_value_comes_whole(executor):
    assert len(executor("print('x' * 3_000_000)").logs) == 1 << 20
    assert len(executor("'y' * 3_000_000").output) == 3_000_002


def test_packages_that_are_there_are_not_installed_and_others_need_an_index(executor):
    assert executor.install_packages(["numpy", "pillow"]) == ["numpy", "pillow"]
    with pytest.raises(AgentError):
        executor.install_packages(["no-such-package-here"])


def test_an_interpreter_that_was_ended_is_told():
    executor = LibsbxExecutor()
    with pytest.raises(AgentError, match="has ended"):
        executor("import os; os._exit(1)")
    with pytest.raises(AgentError, match="has ended"):
        executor("1")
    executor.cleanup()


class Scripted(Model):
    def __init__(self, *cells):
        super().__init__(model_id="scripted")
        self.cells = list(cells)

    def generate(self, messages, **_):
        return ChatMessage(role=MessageRole.ASSISTANT, content=f"Thought: go\n<code>\n{self.cells.pop(0)}\n</code>")


def test_an_agent_runs_on_it():
    @tool
    def shout(text: str) -> str:
        """Shouts.

        Args:
            text: what to shout
        """
        return text.upper()

    model = Scripted("word = shout('hello')\nprint(word)", "1 / 0", "final_answer(word + '!')")
    with CodeAgent(tools=[shout], model=model, executor=LibsbxExecutor(create_kwargs=PACKAGES), verbosity_level=0) as agent:
        assert agent.run("shout") == "HELLO!"
        steps = agent.memory.steps
        assert "HELLO" in steps[1].observations and "ZeroDivisionError" in str(steps[2].error)
