# Python: types, then each file here under each identity. Sourced by tests/run.sh.
#
# The interpreter is the system's, which every user can run, wherever the one in PATH may be.

. tests/bindings/packages.sh
python_tests='abi builds embedding events examples files images network policy sandbox streams trust volumes'

if wanted_any python/types $(printf 'python/%s\n' $python_tests); then
    need_python_packages
    check "python/types" env PYTHONPATH="$python_packages" /usr/bin/python3 -B -m mypy --strict \
        --cache-dir "$work/mypy" examples/python
    cp -R "$python_packages" "$work/python"
    for python_test in $python_tests; do
        add_case "python/$python_test" python \
            "PYTHONPATH=$work/python exec /usr/bin/python3 -B -X dev tests/bindings/python/$python_test.py \$SBX_TEST_PART"
    done
fi
