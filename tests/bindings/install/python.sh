#!/bin/sh
# The wheels, installed: sh python.sh DIRECTORY, with the virtual environment in it.
set -eu
cd "$1"
python=$1/venv/bin/python
export PATH="$1/venv/bin:/usr/bin:/bin" PYTHONDONTWRITEBYTECODE=1

said=$("$python" http_server.py)
printf '%s\n' "$said"
printf '%s\n' "$said" | grep -q 'Directory listing for /'
"$python" -m libsbx doctor | grep 'Sandboxes can be created here.'
"$python" -c 'import libsbx.native as n; assert "/venv/" in n.library._name, n.library._name'

trap 'rm -f "$TMPDIR/out" "$TMPDIR/err"' EXIT
# The program's bytes, input and exit code are its own.
status=0
printf 'a\377b' | "$python" -m libsbx run --env A=6 -- sh -c 'cat; echo $((A * 7)) >&2; exit 3' >"$TMPDIR/out" 2>"$TMPDIR/err" || status=$?
cat "$TMPDIR/err"
[ "$status" = 3 ]
[ "$(od -An -tx1 "$TMPDIR/out" | tr -d ' \n')" = 61ff62 ]
[ "$(cat "$TMPDIR/err")" = 42 ]
status=0
"$python" -m libsbx run --timeout 1 -- sleep 60 </dev/null 2>"$TMPDIR/err" || status=$?
[ "$status" = 124 ]
grep 'reached its timeout' "$TMPDIR/err"
status=0
"$python" -m libsbx run --block-network -- no-such-program </dev/null 2>"$TMPDIR/err" || status=$?
[ "$status" = 125 ]
grep 'No such file' "$TMPDIR/err"
# No program is called sbx.
[ ! -e "$1/venv/bin/sbx" ]
