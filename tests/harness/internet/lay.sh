# Lays and lifts an Internet of our own around the cases that need one. Sourced, by process 1 of a run.

# lay_internet DIRECTORY [QUIC]: returns when it is ready. The host's namespace has routes to everywhere from then on.
lay_internet() {
    mkdir -p "$1"
    chmod 755 "$1"
    # Whoever the tests run as may ask for another address of the host.
    mkfifo -m 622 "$1/hold"
    chmod 622 "$1/hold"
    # Opened for both ways its standard input never ends by itself, whoever else holds what.
    /usr/bin/python3 -I "$work/checkout/tests/harness/internet/internet.py" "$@" <>"$1/hold" >"$1/log" 2>&1 &
    internet_process=$!
    internet_tries=100
    until [ -e "$1/ready" ]; do
        internet_tries=$((internet_tries - 1))
        if [ "$internet_tries" = 0 ] || ! kill -0 "$internet_process" 2>/dev/null; then
            lift_internet
            return 1
        fi
        sleep 0.1
    done
}

lift_internet() {
    kill "$internet_process" 2>/dev/null || :
    wait "$internet_process" || :
}

# lay_capture LINK DIRECTORY: writes down what passes it, until lift_capture.
lay_capture() {
    mkfifo "$2/ready"
    /usr/bin/python3 -I "$work/checkout/tests/harness/internet/capture.py" "$1" "$2" >"$2/ready" &
    capture_process=$!
    read -r capture_ready <"$2/ready" && [ "$capture_ready" = ready ]
}

lift_capture() {
    kill "$capture_process" 2>/dev/null || :
    wait "$capture_process" || :
}
