"""What deepagents 0.7.32 does otherwise than langchain-tests 1.1.9 expects, with any sandbox: its glob() answers with absolute
paths, and its write() replaces a file."""

import pytest

DISAGREE = {
    "test_glob", "test_glob_basic_pattern", "test_glob_hidden_files_explicitly", "test_glob_with_character_class",
    "test_glob_with_directories", "test_glob_with_question_mark", "test_write_existing_file_fails",
}  # fmt: skip


def pytest_collection_modifyitems(items):
    for item in items:
        if item.name in DISAGREE:
            item.add_marker(pytest.mark.xfail(strict=True, reason="deepagents and langchain-tests disagree"))
