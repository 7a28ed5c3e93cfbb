# What is tried in containers, of docker's and of podman's. Sourced, with `container OPTIONS IMAGE COMMAND...`, which runs one,
# and with $seccomp, the directory with the filters; $filter, which of them is this runtime's; $uncovered, the option that
# uncovers /proc; under the runtime's own filter $refused and $remedy, what the doctor says, and $failure, the sandbox's error.
failed=0

# expect NAME STATUS TEXT OPTIONS...: a container ends with that status and says that text.
expect() {
    name=$1 expected=$2 text=$3
    shift 3
    status=0
    said=$(container "$@" 2>&1) || status=$?
    if [ "$status" = "$expected" ] && printf '%s\n' "$said" | grep -q -e "$text"; then
        echo "places: $name: ok"
    else
        printf '%s\n' "$said"
        echo "places: $name: status $status, expected $expected and: $text"
        failed=1
    fi
}

# An ordinary user as a careful deployment has it.
confined="--user 1000:1000 --cap-drop ALL --security-opt no-new-privileges --read-only --tmpfs /tmp:exec,mode=1777"
ours="--security-opt seccomp=$seccomp/$filter"

# shellcheck disable=SC2086 # lists of options
{
    expect "the default filter: the doctor names what is refused" 1 "$refused" $confined place doctor
    expect "the default filter: the doctor names the remedy" 1 "$remedy" $confined place doctor
    expect "the default filter: JSON" 1 '"usable":false' $confined place doctor --json
    expect "the default filter: the error" 1 "$failure" $confined place place
    expect "our filter: the doctor" 0 'sandboxes can be created here' $confined $ours place doctor
    expect "our filter: /proc/sys stays read-only" 0 'limited  *proc_sys' $confined $ours place doctor
    expect "our filter, no capability, read-only root" 0 '^works$' $confined $ours place place /image
    expect "our filter, uncovered /proc" 0 '^works$' $confined $ours $uncovered place place /image
    expect "the filter for other runtimes" 0 '^works$' $confined --security-opt "seccomp=$seccomp/seccomp-oci.json" \
        place place
    expect "our filter, as uid 0: the doctor names the capability" 1 'CAP_SETFCAP' --user 0:0 --cap-drop ALL $ours place doctor
    expect "our filter, as uid 0 with CAP_SETFCAP" 0 '^works$' --user 0:0 --cap-drop ALL --cap-add SETFCAP $ours \
        place place
    expect "a noexec /tmp: the doctor" 0 'images .*noexec' --user 1000:1000 --cap-drop ALL --read-only \
        --tmpfs /tmp:noexec,mode=1777 $ours place doctor
}
[ "$failed" = 0 ]
