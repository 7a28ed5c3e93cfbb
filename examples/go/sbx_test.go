package sbx

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// patience is longer than anything here takes; who waits for it fails.
func patience(t *testing.T) context.Context {
	t.Helper()
	if os.Getenv("SBX_RUNSC") == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("SBX_RUNSC is not set")
		}
		t.Skip("SBX_RUNSC is not set")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func create(t *testing.T, config *Config) *Sandbox {
	t.Helper()
	sandbox, err := Create(patience(t), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sandbox.Close() })
	return sandbox
}

func script(text string) *Config { return &Config{Command: []string{"sh", "-c", text}} }

func ended(t *testing.T, sandbox *Sandbox) Exit {
	t.Helper()
	exit, err := sandbox.Wait(patience(t))
	if err != nil {
		t.Fatal(err)
	}
	return exit
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t *testing.T, err, target error, text string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got %v, want %v", err, target)
	}
	if !strings.Contains(err.Error(), text) {
		t.Fatalf("%q should say %q", err, text)
	}
}

func TestExitCodesAndReasons(t *testing.T) {
	for _, want := range []struct {
		script string
		change func(*Config)
		act    func(*Sandbox) error
		exit   Exit
	}{
		{script: "exit 7", exit: Exit{Code: 7, Reason: Exited}},
		{script: "kill -9 $$", exit: Exit{Code: 137, Reason: Signalled, Signal: syscall.SIGKILL}},
		{script: "sleep 100", change: func(c *Config) { c.Timeout = 300 * time.Millisecond }, exit: Exit{Code: 124, Reason: TimedOut}},
		{script: "sleep 100", act: (*Sandbox).Terminate, exit: Exit{Code: 137, Reason: Terminated}},
		{script: "exec sleep 100", act: func(s *Sandbox) error { return s.Signal(syscall.SIGUSR1) },
			exit: Exit{Code: 128 + 10, Reason: Signalled, Signal: syscall.SIGUSR1}},
	} {
		config := script(want.script)
		if want.change != nil {
			want.change(config)
		}
		sandbox := create(t, config)
		if want.act != nil {
			must(t, want.act(sandbox))
		}
		exit := ended(t, sandbox)
		exit.Runtime = 0
		if exit != want.exit {
			t.Errorf("%s: got %+v, want %+v", want.script, exit, want.exit)
		}
	}
}

func TestWritersHaveAllOutputWhenWaitReturns(t *testing.T) {
	var out, err bytes.Buffer
	config := script("cat; echo problem >&2")
	config.Stdin, config.Stdout, config.Stderr = strings.NewReader(strings.Repeat("0123456789\n", 100_000)), &out, &err
	ended(t, create(t, config))
	if out.Len() != 1_100_000 || err.String() != "problem\n" {
		t.Errorf("%d bytes of output, %q", out.Len(), err.String())
	}
}

func TestOneWriterGetsBothOutputs(t *testing.T) {
	var both bytes.Buffer
	config := script("echo one; echo two >&2; echo three")
	config.Stdout, config.Stderr = &both, &both
	ended(t, create(t, config))
	if both.String() != "one\ntwo\nthree\n" {
		t.Errorf("%q", both.String())
	}
}

func TestPipesAreReadersAndWriters(t *testing.T) {
	config := script(`while read -r line; do echo "got $line"; done; echo end >&2`)
	config.Pipes = PipeStdin | PipeStdout | PipeStderr
	sandbox := create(t, config)
	for _, word := range []string{"one", "two"} {
		_, err := io.WriteString(sandbox.Stdin, word+"\n")
		must(t, err)
		reply := make([]byte, len("got one\n"))
		_, err = io.ReadFull(sandbox.Stdout, reply)
		must(t, err)
		if string(reply) != "got "+word+"\n" {
			t.Errorf("%q", reply)
		}
	}
	must(t, sandbox.Stdin.Close())
	rest, err := io.ReadAll(sandbox.Stderr)
	must(t, err)
	if string(rest) != "end\n" {
		t.Errorf("%q", rest)
	}
	if exit := ended(t, sandbox); exit.Code != 0 {
		t.Errorf("%+v", exit)
	}
}

func TestErrorsAreTypedAndSayWhatToDo(t *testing.T) {
	ctx := patience(t)
	_, err := Create(ctx, &Config{Command: []string{"true"}, User: "no such\nuser"})
	wants(t, err, ErrInvalid, "user")
	_, err = Create(ctx, &Config{Command: []string{"true"}, Env: map[string]string{"A": "b\x00c"}})
	wants(t, err, ErrInvalid, "zero byte")
	_, err = Create(ctx, &Config{Command: []string{"/no/such/program"}})
	wants(t, err, ErrExec, "/no/such/program")
	_, err = Create(ctx, &Config{Command: []string{"true"}, Policy: &Policy{}})
	wants(t, err, ErrInvalid, "Mode")
	_, err = Create(ctx, &Config{Command: []string{"true"}, EncryptedPorts: []uint16{1}, Policy: &Policy{Mode: Blocked}})
	wants(t, err, ErrInvalid, "")
	var typed *Error
	if !errors.As(err, &typed) || typed.Code != ErrInvalid || typed.Op != "config" {
		t.Errorf("%#v", err)
	}
	sandbox := create(t, &Config{Command: []string{"sleep", "100"}, Name: "taken"})
	_, err = Create(ctx, &Config{Command: []string{"true"}, Name: "taken"})
	wants(t, err, fs.ErrExist, "taken")
	_, err = sandbox.Tunnel(80)
	wants(t, err, fs.ErrNotExist, "80")
	_, err = sandbox.Dial(ctx, 80)
	wants(t, err, ErrRefused, "")
}

func TestWhatIsMissingIsAnErrorAndNoPanic(t *testing.T) {
	ctx := patience(t)
	var none context.Context
	_, err := Create(ctx, nil)
	wants(t, err, ErrInvalid, "the config is nil")
	_, err = Create(none, &Config{})
	wants(t, err, ErrInvalid, "the context is nil")
	sandbox := create(t, &Config{UnencryptedPorts: []uint16{80}})
	_, err = sandbox.Exec(ctx, nil)
	wants(t, err, ErrInvalid, "the command is nil")
	_, err = sandbox.Exec(none, &Cmd{Command: []string{"true"}})
	wants(t, err, ErrInvalid, "the context is nil")
	wants(t, sandbox.SetPolicy(ctx, nil), ErrInvalid, "the policy is nil")
	wants(t, sandbox.SetPolicy(none, &Policy{Mode: Open}), ErrInvalid, "the context is nil")
	_, err = sandbox.Wait(none)
	wants(t, err, ErrInvalid, "the context is nil")
	wants(t, sandbox.WaitReady(none), ErrInvalid, "the context is nil")
	_, err = sandbox.Dial(none, 80)
	wants(t, err, ErrInvalid, "the context is nil")
	_, err = sandbox.Stats(none)
	wants(t, err, ErrInvalid, "the context is nil")

	process, err := sandbox.Exec(ctx, &Cmd{Command: []string{"sleep", "100"}})
	must(t, err)
	for name, stream := range map[string]io.Reader{
		"output": sandbox.Stdout, "error": sandbox.Stderr, "terminal": sandbox.Terminal,
		"standard output": process.Stdout, "standard error": process.Stderr, "a terminal": nil,
	} {
		if stream == nil {
			stream = process.Terminal
		}
		_, err = io.ReadAll(stream)
		wants(t, err, ErrState, strings.TrimPrefix(name, "a "))
	}
	_, err = io.WriteString(sandbox.Stdin, "x")
	wants(t, err, ErrState, "PipeStdin")
	must(t, process.Close())
	wants(t, process.Close(), fs.ErrClosed, "was closed before")
}

func TestNegativeSettingsAreRefusedByName(t *testing.T) {
	ctx := patience(t)
	for text, config := range map[string]*Config{
		"Timeout: -1ns is negative":        {Timeout: -1},
		"IdleTimeout: -1s is negative":     {IdleTimeout: -time.Second},
		"Probe.Interval: -1ns is negative": {Probe: Probe{Port: 1, Interval: -1}},
		"MaxProcesses: -1 is out of range": {MaxProcesses: -1},
		"MaxOpenFiles: -1 is out of range": {MaxOpenFiles: -1},
		"CPUs: -1 is out of range":         {CPUs: -1},
		"CPUs: NaN is out of range":        {CPUs: math.NaN()},
	} {
		_, err := Create(ctx, config)
		wants(t, err, ErrInvalid, text)
	}
	sandbox := create(t, &Config{})
	_, err := sandbox.Exec(ctx, &Cmd{Command: []string{"true"}, Timeout: -1})
	wants(t, err, ErrInvalid, "Timeout: -1ns is negative")
	wants(t, sandbox.Stop(syscall.SIGTERM, -1), ErrInvalid, "the grace -1ns is negative")
}

func TestALimitThatCannotBeHeldNamesTheWatchdog(t *testing.T) {
	sandbox, err := Create(patience(t), &Config{Memory: 512 << 20})
	if err == nil {
		sandbox.Close()
		t.Skip("this user has control groups")
	}
	wants(t, err, ErrHost, "Or set Config.Watchdog")
	create(t, &Config{Memory: 512 << 20, Watchdog: true})
}

func TestAServiceOfTheHostIsReachedWhateverThePolicy(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer server.Close()
	go func() {
		if conn, err := server.Accept(); err == nil {
			_, _ = io.WriteString(conn, "from the host")
			conn.Close()
		}
	}()
	var out bytes.Buffer
	client := `import socket; print(socket.create_connection(("192.0.0.1", 8080), 30).recv(100).decode())`
	sandbox := create(t, &Config{
		Command:      []string{"python3", "-c", client},
		HostServices: map[uint16]netip.AddrPort{8080: server.Addr().(*net.TCPAddr).AddrPort()},
		Policy:       &Policy{Mode: Allowlist},
		Stdout:       &out,
	})
	ended(t, sandbox)
	if out.String() != "from the host\n" {
		t.Errorf("%q", out.String())
	}
	_, err = Create(patience(t), &Config{HostServices: map[uint16]netip.AddrPort{80: {}}})
	wants(t, err, ErrInvalid, "")
}

func TestAContextCanEndAProgram(t *testing.T) {
	sandbox := create(t, &Config{})
	ctx, cancel := context.WithCancel(patience(t))
	tree := []string{"sh", "-c", "sleep 100 & sleep 100"}
	killed, err := sandbox.Exec(ctx, &Cmd{Command: tree, KillOnDone: true})
	must(t, err)
	other, err := sandbox.Exec(ctx, &Cmd{Command: tree})
	must(t, err)
	over, err := sandbox.Exec(ctx, &Cmd{Command: []string{"sh", "-c", "exit 3"}, KillOnDone: true})
	must(t, err)
	exit, err := over.Wait(patience(t))
	must(t, err)
	cancel()
	if exit.Code != 3 {
		t.Errorf("%+v", exit)
	}
	exit, err = killed.Wait(patience(t))
	must(t, err)
	if exit.Code != 137 || exit.Reason != Signalled {
		t.Errorf("%+v", exit)
	}
	short, stop := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer stop()
	_, err = other.Wait(short)
	wants(t, err, context.DeadlineExceeded, "did not end")
	// One that has ended before kills it at once.
	_, err = sandbox.Exec(ctx, &Cmd{Command: tree, KillOnDone: true})
	wants(t, err, context.Canceled, "")
}

func TestAClientForgetsIdleConnections(t *testing.T) {
	transport := Tunnel{}.Client().Transport.(*http.Transport)
	if transport.IdleConnTimeout != 30*time.Second {
		t.Error(transport.IdleConnTimeout)
	}
}

func TestAClosedSandboxIsAnErrorEverywhere(t *testing.T) {
	sandbox := create(t, &Config{Command: []string{"sleep", "100"}, EncryptedPorts: []uint16{80}})
	must(t, sandbox.Close())
	wants(t, sandbox.Close(), fs.ErrClosed, "sbx: close: "+sandbox.ID()+" was closed before")
	wants(t, sandbox.Terminate(), fs.ErrClosed, "")
	wants(t, sandbox.Signal(syscall.SIGTERM), ErrHandle, "")
	_, err := sandbox.Stats(patience(t))
	wants(t, err, ErrHandle, "")
	_, err = sandbox.Tunnels()
	wants(t, err, ErrHandle, "")
	_, err = sandbox.Dial(patience(t), 80)
	wants(t, err, ErrHandle, "")
	_, err = sandbox.Exec(patience(t), &Cmd{Command: []string{"true"}})
	wants(t, err, ErrHandle, "")
	_, err = sandbox.Wait(patience(t))
	wants(t, err, ErrClosed, "closed")
	wants(t, sandbox.WaitReady(patience(t)), ErrClosed, "closed")
}

func TestAWrongKindOfHandleIsAnError(t *testing.T) {
	sandbox := create(t, &Config{Command: []string{"sleep", "100"}})
	other := &Sandbox{}
	// What the type system forbids: a queue in the place of a sandbox.
	*(*unsafe.Pointer)(unsafe.Pointer(&other.handle)) = *(*unsafe.Pointer)(unsafe.Pointer(&events.handle))
	wants(t, other.Terminate(), ErrHandle, "queue")
	must(t, sandbox.Terminate())
}

func TestWhoWaitsHearsOfTheClose(t *testing.T) {
	sandbox := create(t, &Config{Command: []string{"sleep", "100"}})
	told := make(chan error)
	go func() {
		_, err := sandbox.Wait(context.Background())
		told <- err
	}()
	must(t, sandbox.Close())
	wants(t, <-told, ErrClosed, sandbox.ID())
}

func TestEveryWaitEndsWithItsContext(t *testing.T) {
	sandbox := create(t, &Config{Command: []string{"sleep", "100"}, UnencryptedPorts: []uint16{80}})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := sandbox.Wait(ctx)
	wants(t, err, context.DeadlineExceeded, sandbox.ID())
	wants(t, sandbox.WaitReady(ctx), context.DeadlineExceeded, "ready")
	_, err = sandbox.Dial(ctx, 80)
	wants(t, err, context.DeadlineExceeded, sandbox.ID())
	_, err = sandbox.Stats(ctx)
	wants(t, err, context.DeadlineExceeded, sandbox.ID())
	_, err = Create(ctx, script("true"))
	wants(t, err, context.DeadlineExceeded, "")
}

func TestWhatIsGivenUpHoldsUpNoOther(t *testing.T) {
	ctx := patience(t)
	crowded := create(t, &Config{})
	listening := []string{"python3", "-m", "http.server", "80"}
	other := create(t, &Config{Command: listening, UnencryptedPorts: []uint16{80}})
	must(t, other.WaitReady(ctx))
	short, cancel := context.WithCancel(ctx)
	var gaveUp sync.WaitGroup
	ask := func(call func() error) {
		gaveUp.Add(1)
		go func() {
			defer gaveUp.Done()
			// It was faster, or was given up.
			if err := call(); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, ErrRefused) {
				t.Error(err)
			}
		}()
	}
	for range 100 {
		ask(func() error { _, err := crowded.Dial(short, 80); return err })
		ask(func() error { _, err := crowded.Stats(short); return err })
		ask(func() error { _, err := crowded.ReadPolicy(short); return err })
	}
	conn, err := other.Dial(ctx, 80)
	must(t, err)
	must(t, conn.Close())
	cancel()
	gaveUp.Wait()
	_, err = other.Stats(ctx)
	must(t, err)
	_, err = crowded.Stats(ctx)
	must(t, err)
	_, err = crowded.Dial(ctx, 80)
	wants(t, err, ErrRefused, "")
}

func TestACreationThatIsGivenUpLeavesNothing(t *testing.T) {
	patience(t)
	for _, after := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(context.Background(), after)
		sandbox, err := Create(ctx, &Config{Command: []string{"sleep", "100"}, Name: "given-up"})
		cancel()
		if err == nil {
			sandbox.Close()
			continue
		}
		wants(t, err, context.DeadlineExceeded, "")
	}
	// The name is free again.
	eventually(t, "the sandboxes are gone", func() bool {
		sandbox, err := Create(patience(t), &Config{Name: "given-up"})
		if err == nil {
			sandbox.Close()
		}
		return err == nil
	})
}

func TestEventsComeToTheChannel(t *testing.T) {
	told := make(chan Event, 16)
	config := script("exit 3")
	config.Events = told
	sandbox := create(t, config)
	ended(t, sandbox)
	for _, want := range []EventKind{EventStarted, EventExited} {
		event := <-told
		if event.Kind != want || event.Sandbox != sandbox.ID() || want == EventExited && event.Code != 3 {
			t.Errorf("%+v", event)
		}
	}
}

func TestTheChannelOfEventsMayBeClosedAfterTheEnd(t *testing.T) {
	told := make(chan Event, 16)
	config := script("read line")
	config.Events, config.Pipes = told, PipeStdin
	sandbox := create(t, config)
	subject, sent := sandbox.subject, 0
	subject.mutex.Lock()
	subject.look = after(subject.look, func() { sent = len(told) })
	subject.mutex.Unlock()
	must(t, sandbox.Stdin.Close())
	ended(t, sandbox)
	close(told)
	if sent != 2 {
		t.Errorf("%d events had been sent when its end was told", sent)
	}
	subject.happened(Event{Kind: EventDenied})

	told = make(chan Event, 16)
	config = &Config{Events: told}
	sandbox = create(t, config)
	must(t, sandbox.Close())
	close(told)
	sandbox.subject.happened(Event{Kind: EventDenied}) // one that the queue's goroutine had in its hands
}

// after is a function that does something else first.
func after[A, B, C any](function func(A, B) C, first func()) func(A, B) C {
	return func(a A, b B) C {
		first()
		return function(a, b)
	}
}

func TestALossOfEventsIsMadeGood(t *testing.T) {
	ctx := patience(t)
	var unborn *subject
	_, err := begun(ctx, "nothing", func(s *subject) error {
		unborn = s
		events.tell(0, Event{Lost: 1})
		return ErrState
	})
	wants(t, err, ErrState, "")
	unborn.ask(false) // as that event lets it

	up := Probe{Command: []string{"test", "-e", "/tmp/up"}, Interval: 20 * time.Millisecond}
	sandbox := create(t, &Config{Probe: up})
	subject := sandbox.subject
	subject.forget() // its events are lost
	ready := make(chan error)
	go func() { ready <- sandbox.WaitReady(ctx) }()
	_, err = sandbox.Exec(ctx, &Cmd{Command: []string{"touch", "/tmp/up"}})
	must(t, err)
	eventually(t, "it is not ready", func() bool { return subject.probe() == nil })
	_, err = sandbox.Exec(ctx, &Cmd{Command: []string{"true"}}) // which is told after that
	must(t, err)
	events.mutex.Lock()
	events.subjects[subject.cookie] = subject
	events.mutex.Unlock()
	events.tell(0, Event{Lost: 1})
	must(t, <-ready)
}

func TestHowItEndedStaysAsItIs(t *testing.T) {
	ctx := patience(t)
	sandbox := create(t, &Config{Command: []string{"true"}, UnencryptedPorts: []uint16{80}})
	exit := ended(t, sandbox)
	var asking sync.WaitGroup
	for range 20 {
		asking.Add(2)
		go func() {
			defer asking.Done()
			if again, err := sandbox.Wait(ctx); err != nil || again != exit {
				t.Error(again, err)
			}
		}()
		go func() {
			defer asking.Done()
			if err := sandbox.WaitReady(ctx); !errors.Is(err, ErrState) {
				t.Error(err)
			}
		}()
	}
	asking.Wait()
}

func TestReadinessIsSeen(t *testing.T) {
	sandbox := create(t, &Config{
		Command: []string{"sh", "-c", "sleep 0.3; touch /tmp/up; sleep 100"},
		Probe:   Probe{Command: []string{"test", "-e", "/tmp/up"}, Interval: 20 * time.Millisecond},
	})
	must(t, sandbox.WaitReady(patience(t)))
	must(t, sandbox.WaitReady(patience(t)))
	short := create(t, &Config{Command: []string{"true"}, UnencryptedPorts: []uint16{80}})
	wants(t, short.WaitReady(patience(t)), ErrState, "has ended: exited")
	wants(t, create(t, &Config{}).WaitReady(patience(t)), ErrInvalid, "no readiness probe and no port")
}

func TestAPolicyIsChangedWhileTheSandboxRuns(t *testing.T) {
	ctx := patience(t)
	told := make(chan Event, 64)
	sandbox := create(t, &Config{Events: told, Policy: &Policy{Mode: Allowlist}})
	bad := &Policy{Mode: Allowlist, AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("198.51.100.7/8")}}
	wants(t, sandbox.SetPolicy(ctx, bad), ErrInvalid, "198.51.100.7/8")
	_, err := Create(ctx, &Config{Policy: bad})
	wants(t, err, ErrInvalid, "198.51.100.7/8")
	cut := &Policy{Mode: Allowlist, AllowDomains: []string{"example.com\x00.example.org"}}
	wants(t, sandbox.SetPolicy(ctx, cut), ErrInvalid, "zero byte")
	_, err = Create(ctx, &Config{Policy: cut})
	wants(t, err, ErrInvalid, "zero byte")
	must(t, sandbox.SetPolicy(ctx, &Policy{
		Mode: Allowlist, AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, AllowDomains: []string{"*.example.com"},
	}))
	must(t, sandbox.SetPolicy(ctx, &Policy{Mode: Open, DNS: DNSAddresses, LocalCIDRs: []netip.Prefix{netip.MustParsePrefix("93.184.216.0/24")}}))
	local := &Policy{Mode: Allowlist, LocalCIDRs: []netip.Prefix{netip.MustParsePrefix("93.184.216.0/24")}}
	wants(t, sandbox.SetPolicy(ctx, local), ErrInvalid, "93.184.216.0/24")
	// What is denied is told.
	process, err := sandbox.Exec(ctx, &Cmd{Command: []string{"python3", "-c", "import socket; socket.create_connection(('203.0.113.7', 80), 5)"}})
	must(t, err)
	_, err = process.Wait(ctx)
	must(t, err)
	for event := range told {
		if event.Kind == EventDenied {
			if event.Address != "203.0.113.7" || event.Port != 80 || event.Denial == 0 || event.Reason != 0 || event.Sandbox != sandbox.ID() {
				t.Errorf("%+v", event)
			}
			break
		}
	}
	must(t, sandbox.Close())
	wants(t, sandbox.SetPolicy(ctx, &Policy{Mode: Open}), ErrHandle, "")
}

// eventually looks again and again until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx := patience(t)
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatal(what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestProgramsRunInARunningSandbox(t *testing.T) {
	ctx := patience(t)
	sandbox := create(t, &Config{Env: map[string]string{"A": "outer", "B": "outer"}})
	var out, err bytes.Buffer
	process, failure := sandbox.Exec(ctx, &Cmd{
		Command: []string{"sh", "-c", `cat; echo "$A $B $C $PWD" >&2; exit 9`}, Env: map[string]string{"A": "inner"},
		Secrets: map[string]string{"C": "secret"}, Dir: "/tmp", Stdin: strings.NewReader("typed"), Stdout: &out, Stderr: &err,
	})
	must(t, failure)
	exit, failure := process.Wait(ctx)
	must(t, failure)
	if exit.Code != 9 || out.String() != "typed" || err.String() != "inner outer secret /tmp\n" {
		t.Errorf("%+v %q %q", exit, out.String(), err.String())
	}
	must(t, process.Close())
	wants(t, process.Close(), ErrHandle, "")
	_, failure = sandbox.Exec(ctx, &Cmd{Command: []string{"/no/such/program"}})
	wants(t, failure, ErrExec, "/no/such/program")
	_, failure = sandbox.Exec(ctx, &Cmd{})
	wants(t, failure, ErrInvalid, "")
	process, failure = sandbox.Exec(ctx, &Cmd{Command: []string{"sleep", "100"}})
	must(t, failure)
	must(t, process.Signal(syscall.SIGTERM))
	if exit, failure = process.Wait(ctx); failure != nil || exit.Code != 128+15 || exit.Reason != Signalled {
		t.Error(exit, failure)
	}
	process, failure = sandbox.Exec(ctx, &Cmd{Command: []string{"sleep", "100"}, Timeout: 100 * time.Millisecond})
	must(t, failure)
	if exit, failure = process.Wait(ctx); failure != nil || exit.Code != 124 || exit.Reason != TimedOut {
		t.Error(exit, failure)
	}
	must(t, sandbox.Stop(syscall.SIGTERM, time.Second))
	ended(t, sandbox)
	_, failure = sandbox.Exec(ctx, &Cmd{Command: []string{"true"}})
	wants(t, failure, ErrState, "")
}

func TestATerminalIsAReaderAndWriter(t *testing.T) {
	ctx := patience(t)
	sandbox := create(t, &Config{})
	process, err := sandbox.Exec(ctx, &Cmd{Command: []string{"sh"}, Terminal: &Size{Rows: 11, Columns: 22}})
	must(t, err)
	must(t, process.Resize(Size{Rows: 33, Columns: 44}))
	// What is typed may overtake the size, which goes another way.
	_, err = io.WriteString(process.Terminal, "until stty size | grep -x '33 44'; do sleep 0.05; done; exit 5\n")
	must(t, err)
	shown, _ := io.ReadAll(process.Terminal)
	if !strings.Contains(string(shown), "33 44\r\n") {
		t.Errorf("%q", shown)
	}
	if exit, err := process.Wait(ctx); err != nil || exit.Code != 5 {
		t.Error(exit, err)
	}
}

func TestSandboxesAreKeptWarm(t *testing.T) {
	like := func(command string) *Config {
		config := script(command)
		config.Hostname, config.MaxProcesses = "warm", 100
		return config
	}
	ctx := patience(t)
	untilReady := func(count int) WarmStats {
		t.Helper()
		for {
			stats, err := ReadWarmStats(like(""))
			must(t, errors.Join(err, ctx.Err()))
			if stats.Ready == count && stats.Filling == 0 {
				return stats
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	must(t, KeepWarm(like(""), 1))
	defer KeepWarm(like(""), 0)
	if stats := untilReady(1); stats.Wanted != 1 {
		t.Errorf("%+v", stats)
	}
	if exit := ended(t, create(t, like("exit 5"))); exit.Code != 5 {
		t.Error(exit)
	}
	if stats := untilReady(1); stats.Hits != 1 || stats.MissesEmpty != 0 || stats.LastMiss != "" || stats.Failures != 0 {
		t.Errorf("%+v", stats)
	}
	if exit := ended(t, create(t, script("exit 6"))); exit.Code != 6 {
		t.Error(exit)
	}
	if stats, err := ReadWarmStats(nil); err != nil || stats.MissesDifferent != 1 || stats.LastMiss != "different from the template: hostname, limits" {
		t.Errorf("%+v, %v", stats, err)
	}
	must(t, KeepWarm(like(""), 0))
	untilReady(0)
	secret := like("")
	secret.Secrets = map[string]string{"TOKEN": "hunter2"}
	for _, count := range []int{-1, 257} {
		if err := KeepWarm(secret, count); !errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), "hunter2") {
			t.Error(count, err)
		}
	}
	if err := KeepWarm(&Config{MTU: 1}, 1); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if err := KeepWarm(nil, 1); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

func TestOnlySoManySandboxesStartAtOnce(t *testing.T) {
	ctx := patience(t)
	byDefault, err := MaxStarts()
	must(t, err)
	if byDefault < 4 {
		t.Error(byDefault)
	}
	must(t, SetMaxStarts(1))
	if count, err := MaxStarts(); count != 1 || err != nil {
		t.Error(count, err)
	}
	var group sync.WaitGroup
	for code, program := range []string{"exit 0", "exit 1", "exit 2"} {
		group.Add(1)
		go func() {
			defer group.Done()
			sandbox, err := Create(ctx, script(program))
			if err != nil {
				t.Error(err)
				return
			}
			defer sandbox.Close()
			if exit, err := sandbox.Wait(ctx); err != nil || exit.Code != code {
				t.Error(exit, err, code)
			}
		}()
	}
	group.Wait()
	must(t, SetMaxStarts(0))
	if count, err := MaxStarts(); count != byDefault || err != nil {
		t.Error(count, err)
	}
	for _, count := range []int{-1, 257} {
		if err := SetMaxStarts(count); !errors.Is(err, ErrInvalid) {
			t.Error(count, err)
		}
	}
}

func TestSpares(t *testing.T) {
	must(t, SetSpares(2))
	defer SetSpares(0)
	if count, err := Spares(); count != 2 || err != nil {
		t.Error(count, err)
	}
	for code, program := range []string{"exit 0", "exit 1", "exit 2"} {
		sandbox := create(t, script(program))
		if exit, err := sandbox.Wait(patience(t)); err != nil || exit.Code != code {
			t.Error(exit, err, code)
		}
	}
	for _, count := range []int{-1, 17} {
		if err := SetSpares(count); !errors.Is(err, ErrInvalid) {
			t.Error(count, err)
		}
	}
}

func TestLimitsAndStatistics(t *testing.T) {
	sandbox := create(t, &Config{
		Command: []string{"sleep", "100"}, MaxProcesses: 50, MaxOpenFiles: 64, Disk: 1 << 20, IdleTimeout: time.Hour,
		UnencryptedPorts: []uint16{80},
	})
	stats, err := sandbox.Stats(patience(t))
	must(t, err)
	if stats.Uptime < 0 || stats.TunnelConnectionsTotal != 0 || stats.Uptime > time.Minute || stats.Egress.String() != (Reading[EgressStats]{EgressStats{}, true}).String() {
		t.Errorf("%+v", stats)
	}
	for _, reading := range []Reading[uint64]{stats.Memory, stats.MemoryPeak} {
		if reading.Known != (reading.Value > 0) || (reading.String() == "unknown") == reading.Known {
			t.Errorf("%+v", stats)
		}
	}
	var out bytes.Buffer
	process, err := sandbox.Exec(patience(t), &Cmd{Command: []string{"sh", "-c", "ulimit -n"}, Stdout: &out})
	must(t, err)
	if _, err := process.Wait(patience(t)); err != nil || out.String() != "64\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}
