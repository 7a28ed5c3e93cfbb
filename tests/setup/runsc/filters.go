// Compiles runsc's system call filters ahead of time, as the Bazel build of gVisor's releases does. A runsc that is built from the Go
// module alone compiles them anew in every sandbox and gofer that starts.
//
// go run ./filters MODULE: writes them into a copy of gVisor's module.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	sentry "gvisor.dev/gvisor/runsc/boot/filter/config"
	gofer "gvisor.dev/gvisor/runsc/fsgofer/filter/config"
)

func main() {
	if len(os.Args) != 2 {
		fail("usage: filters MODULE")
	}
	for _, part := range []struct {
		file     string
		programs func() ([]precompiledseccomp.Program, error)
	}{
		{"runsc/boot/filter/filter_precompiled.go", sentry.PrecompiledPrograms},
		{"runsc/fsgofer/filter/filter_precompiled.go", gofer.PrecompiledPrograms},
	} {
		file := filepath.Join(os.Args[1], part.file)
		text, err := os.ReadFile(file)
		check(err)
		programs, err := part.programs()
		check(err)
		check(os.WriteFile(file, []byte(withPrograms(file, string(text), programs)), 0o644))
	}
}

// withPrograms returns a file's text with the programs registered in its registerPrograms.
func withPrograms(file, text string, programs []precompiledseccomp.Program) string {
	sort.Slice(programs, func(i, j int) bool { return programs[i].Name < programs[j].Name })
	var registrations strings.Builder
	for _, program := range programs {
		// libsbx passes no devices through.
		if !strings.Contains(program.Name, "Proxy=true") {
			registrations.WriteString(program.Registration("\t", "precompiledseccomp", "programs"))
		}
	}
	for _, change := range [][2]string{
		{"PrecompilationDisabledAtBuildTime = true", "PrecompilationDisabledAtBuildTime = false"},
		{"\tprecompiledPrograms = programs\n", registrations.String() + "\tprecompiledPrograms = programs\n"},
	} {
		if registrations.Len() == 0 || strings.Count(text, change[0]) != 1 {
			fail(fmt.Sprintf("%s has no place for compiled programs: this release of gVisor is made differently", file))
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	return text
}

func check(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, "error: "+message)
	os.Exit(1)
}
