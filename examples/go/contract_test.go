package sbx

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Hosts that do what hosts do: this same program, started again with SBX_TEST_HOST. Who looks at what they leave
// is the test.
var hosts = map[string]func(context.Context) int{
	"no-runsc": func(ctx context.Context) int {
		_, err := Create(ctx, script("true"))
		fmt.Println(err)
		if errors.Is(err, ErrRunscMissing) {
			return 7
		}
		return 1
	},
	"children": func(ctx context.Context) int {
		sandbox := hosted(ctx, script("sleep 0.3; exit 7"))
		for i := range 20 {
			err := exec.Command("sh", "-c", "exit "+strconv.Itoa(i)).Run()
			if failed, is := err.(*exec.ExitError); i > 0 && (!is || failed.ExitCode() != i) || i == 0 && err != nil {
				return 1
			}
		}
		return code(ctx, sandbox)
	},
	"ignored": func(ctx context.Context) int {
		signal.Ignore(syscall.SIGCHLD)
		return code(ctx, hosted(ctx, script("exit 7")))
	},
	"exit": func(ctx context.Context) int {
		sandbox := hosted(ctx, script("sleep 100"))
		go sandbox.Wait(ctx)
		go hosted(ctx, script("sleep 100"))
		os.Exit(7)
		return 0
	},
	"panic": func(ctx context.Context) int {
		hosted(ctx, script("sleep 100"))
		defer func() {
			_ = recover()
			os.Exit(7)
		}()
		panic("something else")
	},
	"killed": func(ctx context.Context) int {
		fmt.Print("x")
		for {
			sandbox := hosted(ctx, script("sleep 100"))
			go sandbox.Wait(ctx)
			time.AfterFunc(500*time.Millisecond, func() { sandbox.Close() })
		}
	},
}

func hosted(ctx context.Context, config *Config) *Sandbox {
	sandbox, err := Create(ctx, config)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return sandbox
}

func code(ctx context.Context, sandbox *Sandbox) int {
	exit, err := sandbox.Wait(ctx)
	if err != nil {
		return 3
	}
	return exit.Code
}

func TestMain(m *testing.M) {
	if host := hosts[os.Getenv("SBX_TEST_HOST")]; host != nil {
		os.Exit(host(context.Background()))
	}
	inherits = openInChild()
	os.Exit(withImages(m.Run))
}

// withImages runs with stores of images and of volumes of its own.
func withImages(run func() int) int {
	cache, err := os.MkdirTemp("", "sbx-go-images")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(cache)
	os.Setenv("XDG_CACHE_HOME", cache)
	os.Setenv("XDG_DATA_HOME", cache)
	return run()
}

// inherits is what a child inherited before the library had anything.
var inherits string

func openInChild() string {
	out, err := exec.Command("sh", "-c", "ls /proc/self/fd | wc -l").Output()
	return fmt.Sprint(strings.TrimSpace(string(out)), err)
}

func start(t *testing.T, host string) (*exec.Cmd, io.Reader) {
	t.Helper()
	// Orphans come to us: PR_SET_CHILD_SUBREAPER.
	_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, 36, 1, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	self, err := os.Executable()
	must(t, err)
	command := exec.Command(self)
	command.Env = append(os.Environ(), "SBX_TEST_HOST="+host)
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	return command, output
}

// descendants are the processes below this one.
func descendants(t *testing.T) map[int]string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	must(t, err)
	parents, names := map[int]int{}, map[int]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has just ended
		}
		begin, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text[:begin])))
		parents[pid], _ = strconv.Atoi(strings.Fields(string(text[end+1:]))[1])
		names[pid] = string(text[begin : end+1])
	}
	found := map[int]string{}
	for pid := range parents {
		for up := parents[pid]; up > 1; up = parents[up] {
			if up == os.Getpid() {
				found[pid] = names[pid]
			}
		}
	}
	return found
}

func nothingIsLeft(t *testing.T) {
	t.Helper()
	eventually(t, "processes are left", func() bool {
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != nil || pid <= 0 {
				break
			}
		}
		return len(descendants(t)) == 0
	})
}

func TestHostsThatEndLeaveNothing(t *testing.T) {
	patience(t)
	runtime.GC()
	for _, host := range []string{"children", "ignored", "exit", "panic"} {
		command, _ := start(t, host)
		if _ = command.Wait(); command.ProcessState.ExitCode() != 7 {
			t.Errorf("%s: %s", host, command.ProcessState)
		}
		nothingIsLeft(t)
	}
}

func TestAMissingRunscIsNamedWithWhatToDo(t *testing.T) {
	patience(t)
	t.Setenv("SBX_RUNSC", "/no/such/runsc")
	command, output := start(t, "no-runsc")
	text, err := io.ReadAll(output)
	must(t, err)
	if _ = command.Wait(); command.ProcessState.ExitCode() != 7 || !strings.Contains(string(text), "/no/such/runsc") {
		t.Errorf("%s: %s", command.ProcessState, text)
	}
}

func TestAKilledHostLeavesNothing(t *testing.T) {
	patience(t)
	for i := range 10 {
		command, output := start(t, "killed")
		_, err := bufio.NewReader(output).ReadByte()
		must(t, err)
		// Before, during and after the first sandboxes' start.
		time.Sleep(time.Duration(i) * 41 * time.Millisecond)
		must(t, command.Process.Kill())
		_ = command.Wait()
		nothingIsLeft(t)
	}
}

func TestGoesOwnChildrenSignalsAndPreemptionAreUndisturbed(t *testing.T) {
	ctx := patience(t)
	signals := make(chan os.Signal, 1024)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Stop(signals)
	var stop atomic.Bool
	var busy, work sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		busy.Add(1)
		go func() { // nothing but preemption (SIGURG) takes the processor from this
			defer busy.Done()
			for !stop.Load() {
			}
		}()
	}
	for i := range 4 {
		work.Add(2)
		go func() {
			defer work.Done()
			for range 3 {
				sandbox, err := Create(ctx, script("exit "+strconv.Itoa(i)))
				if err != nil {
					t.Error(err)
					return
				}
				if exit, err := sandbox.Wait(ctx); err != nil || exit.Code != i {
					t.Error(exit, err)
				}
				sandbox.Close()
			}
		}()
		go func() {
			defer work.Done()
			for range 10 {
				syscall.Kill(os.Getpid(), syscall.SIGUSR1)
				if inherited := openInChild(); inherited != inherits {
					t.Errorf("a child inherited %s descriptors, not %s", inherited, inherits)
				}
			}
		}()
	}
	work.Wait()
	stop.Store(true)
	busy.Wait()
	if len(signals) == 0 {
		t.Error("no signal came")
	}
}

// threads is how many this process has.
func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	must(t, err)
	return len(tasks)
}

func TestTwoHundredGoroutinesOnFiftySandboxesTakeNoThreads(t *testing.T) {
	var before int
	ctx, cancel := context.WithCancel(patience(t))
	var waiting, done sync.WaitGroup
	begin := func(count int) {
		var made sync.WaitGroup
		for range count {
			waiting.Add(4)
			made.Add(1)
			done.Add(4)
			go func() {
				config := &Config{Command: []string{"sleep", "100"}, UnencryptedPorts: []uint16{80}, Pipes: PipeStdout | PipeStderr}
				sandbox, err := Create(ctx, config)
				made.Done()
				if err != nil {
					t.Error(err)
					waiting.Add(-4)
					done.Add(-4)
					return
				}
				for _, wait := range []func(){
					func() { _, _ = sandbox.Wait(ctx); sandbox.Close() },
					func() { _ = sandbox.WaitReady(ctx) },
					func() { _, _ = io.Copy(io.Discard, sandbox.Stdout) },
					func() { _, _ = io.Copy(io.Discard, sandbox.Stderr) },
				} {
					go func() {
						defer done.Done()
						waiting.Done()
						wait()
					}()
				}
			}()
		}
		made.Wait()
		waiting.Wait()
	}
	begin(10)
	before = threads(t)
	begin(40)
	after := threads(t)
	t.Logf("%d threads with 10 sandboxes, %d with 50", before, after)
	if after > before+8 {
		t.Errorf("%d threads with 10 sandboxes, %d with 50", before, after)
	}
	cancel()
	done.Wait()
}

func TestTheCollectorIsASafetyNet(t *testing.T) {
	ctx := patience(t)
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	func() {
		sandbox, err := Create(ctx, &Config{Command: []string{"sleep", "100"}, Name: "dropped"})
		must(t, err)
		must(t, sandbox.Signal(syscall.SIGCONT))
	}()
	eventually(t, "it was ended", func() bool {
		runtime.GC()
		another, err := Create(ctx, &Config{Name: "dropped"})
		if err == nil {
			another.Close()
		}
		return err == nil
	})
	// One that somebody waits for is not dropped.
	sandbox, err := Create(ctx, script("sleep 0.5; exit 3"))
	must(t, err)
	waited := make(chan int)
	go func() { waited <- code(ctx, sandbox) }()
	for range 20 {
		runtime.GC()
		time.Sleep(20 * time.Millisecond)
	}
	if got := <-waited; got != 3 {
		t.Errorf("code %d", got)
	}
}
