// Writes the system call filters of examples/deploy from docker's default one, which is Moby's module: go run . DIRECTORY
//
// With -check it compares them instead. What is added to docker's is here, and nothing is taken away.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// added is what docker's default forbids a container without CAP_SYS_ADMIN, and a sandbox needs. Without any one of them
// none starts.
var added = []*seccomp.Syscall{
	allow("namespaces: the keeper makes its own, enters them again, and gVisor clones its processes into more",
		"clone", "setns", "unshare"),
	allow("the keeper mounts parts of the container's files read-only into a root of its own",
		"mount", "mount_setattr", "move_mount", "open_tree", "umount2"),
	allow("gVisor's processes leave the container's files for an empty root", "chroot", "pivot_root"),
}

func allow(comment string, names ...string) *seccomp.Syscall {
	return &seccomp.Syscall{
		LinuxSyscall: specs.LinuxSyscall{Names: names, Action: specs.ActAllow},
		Comment:      comment,
	}
}

// profile is docker's own with that.
func profile() *seccomp.Seccomp {
	made := seccomp.DefaultProfile()
	made.Syscalls = append(made.Syscalls, added...)
	return made
}

// resolved is the same for a container without capabilities, as runtimes take it that don't know docker's conditions. What it
// refuses is answered as by podman's own, ENOSYS: a call that the runtime's library is too old to know by name (mseal) is
// refused like others by crun, and gVisor does without it only if the kernel doesn't have it.
func resolved() (*specs.LinuxSeccomp, error) {
	text, err := json.Marshal(profile())
	if err != nil {
		return nil, err
	}
	none := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}
	made, err := seccomp.LoadProfile(string(text), none)
	if err != nil {
		return nil, err
	}
	missing := uint(syscall.ENOSYS)
	made.DefaultErrnoRet = &missing
	return made, nil
}

func files() (map[string][]byte, error) {
	plain, err := resolved()
	if err != nil {
		return nil, err
	}
	made := map[string][]byte{}
	for name, profile := range map[string]any{"seccomp.json": profile(), "seccomp-oci.json": plain} {
		text, err := json.MarshalIndent(profile, "", "  ")
		if err != nil {
			return nil, err
		}
		made[name] = append(text, '\n')
	}
	return made, nil
}

func run(arguments []string) error {
	check := len(arguments) == 2 && arguments[0] == "-check"
	if len(arguments) != 1 && !check {
		return errors.New("usage: go run . [-check] DIRECTORY")
	}
	directory := arguments[len(arguments)-1]
	made, err := files()
	if err != nil {
		return err
	}
	for name, text := range made {
		path := filepath.Join(directory, name)
		if !check {
			if err := os.WriteFile(path, text, 0o644); err != nil {
				return err
			}
			continue
		}
		there, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Equal(there, text) {
			return fmt.Errorf("%s is not docker's default and what main.go adds: go run . %s", path, directory)
		}
	}
	return nil
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
