package sbx

/*
#include <stdlib.h>
#include <sbx.h>
*/
import "C"

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A State is where a sandbox is in its life.
type State int

// The states.
const (
	Starting State = C.SBX_STATE_STARTING
	Running  State = C.SBX_STATE_RUNNING
	Ending   State = C.SBX_STATE_ENDING
	Ended    State = C.SBX_STATE_ENDED
)

// A Reason is why a sandbox ended.
type Reason int

// The reasons.
const (
	Exited     Reason = C.SBX_EXIT_EXITED      // by itself
	Signalled  Reason = C.SBX_EXIT_SIGNALLED   // by a signal; the code is 128 + its number
	TimedOut   Reason = C.SBX_EXIT_TIMED_OUT   // its lifetime ran out; the code is 124
	Terminated Reason = C.SBX_EXIT_TERMINATED  // by the host; the code is 137
	EngineLost Reason = C.SBX_EXIT_ENGINE_LOST // keeper or gVisor died unasked; the code is 137
)

// An Exit is how a sandbox ended.
type Exit struct {
	Code    int
	Reason  Reason
	Signal  syscall.Signal // or 0
	Runtime time.Duration  // from the program's start to its end
}

// A Sandbox. Any goroutine may call any method at any time.
type Sandbox struct {
	// Streams that [Config].Pipes asked for.
	Stdin          io.WriteCloser
	Stdout, Stderr io.ReadCloser

	*life
	cleanup runtime.Cleanup
}

// life is the part that events reach. It doesn't point to the Sandbox, so that the collector sees when nobody
// has that any more.
type life struct {
	handle *C.sbx_sandbox
	id     string
	cookie uint64
	told   chan<- Event

	started, ended chan struct{} // each is closed once
	ready          chan struct{} // also when it never will be
	closed         chan struct{}
	copied         sync.WaitGroup

	mutex    sync.Mutex // held until the handle is there, and for what follows
	answered bool       // the server inside
	failure  error      // why it wasn't created, or why its end can't be known
	exit     Exit
}

// Create creates a sandbox and waits until its program was started. A context that ends before ends the
// sandbox; afterwards it has no meaning for it.
func Create(ctx context.Context, config *Config) (*Sandbox, error) {
	return (*Runtime)(nil).Create(ctx, config)
}

// Create creates a sandbox in this runtime; else it is as the package's [Create].
func (r *Runtime) Create(ctx context.Context, config *Config) (*Sandbox, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := events.begin(); err != nil {
		return nil, err
	}
	l := &life{
		told:    config.Events,
		started: make(chan struct{}),
		ready:   make(chan struct{}),
		ended:   make(chan struct{}),
		closed:  make(chan struct{}),
	}
	if err := r.begin(l, config); err != nil {
		return nil, err
	}
	s := &Sandbox{life: l}
	s.cleanup = runtime.AddCleanup(s, func(l *life) { l.free() }, l)
	if err := s.await(ctx, l.started, "was not started"); err != nil {
		s.Close()
		return nil, err
	}
	if err := l.why(); err != nil {
		s.Close()
		return nil, err
	}
	if err := s.open(config); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// starting bounds the threads that are in the library at once while many goroutines create.
var starting = make(chan struct{}, 4)

func (r *Runtime) begin(l *life, config *Config) error {
	starting <- struct{}{}
	defer func() { <-starting }()
	// Its first event may come before the call returns.
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.cookie = events.listen(l)
	c, err := config.c(l.cookie)
	if err == nil {
		failure := newFailure()
		err = result("create", C.sbx_create_begin(r.c(), c, &l.handle, failure), failure)
		C.sbx_config_free(c)
	}
	if err != nil {
		events.forget(l.cookie)
		return err
	}
	l.id = C.GoString(C.sbx_sandbox_id(l.handle))
	return nil
}

// ID is "sb-" and 16 hexadecimal digits.
func (s *Sandbox) ID() string { return s.id }

// State is where it is in its life.
func (s *Sandbox) State() (State, error) {
	state := C.sbx_sandbox_state(s.handle)
	return State(state), s.result("state", state, nil)
}

// WaitReady waits until the server inside answers: the config's probe, or without one a connection to the first
// port listed.
func (s *Sandbox) WaitReady(ctx context.Context) error {
	s.mutex.Lock()
	s.probe()
	s.mutex.Unlock()
	if err := s.await(ctx, s.ready, "was not ready"); err != nil {
		return err
	}
	if err := s.why(); err != nil {
		return err
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if !s.answered {
		return &Error{Op: "wait ready", Code: ErrState, Message: fmt.Sprintf("sandbox %s has ended", s.id)}
	}
	return nil
}

// Wait waits until the sandbox has ended, nothing of it is left, and the config's writers have all its output.
func (s *Sandbox) Wait(ctx context.Context) (Exit, error) {
	if err := s.await(ctx, s.ended, "did not end"); err != nil {
		return Exit{}, err
	}
	copied := make(chan struct{})
	go func() {
		s.copied.Wait()
		close(copied)
	}()
	if err := s.await(ctx, copied, "has output that nobody took"); err != nil {
		return Exit{}, err
	}
	if err := s.why(); err != nil {
		return Exit{}, err
	}
	return s.exit, nil
}

// Terminate asks for the end, with code 137 and [Terminated]. It doesn't wait, and may be called at any time and
// any number of times.
func (s *Sandbox) Terminate() error {
	failure := newFailure()
	return s.result("terminate", C.sbx_terminate(s.handle, failure), failure)
}

// Signal sends a signal to the program.
func (s *Sandbox) Signal(signal syscall.Signal) error {
	failure := newFailure()
	return s.result("signal", C.sbx_signal(s.handle, C.int(signal), failure), failure)
}

// dialling bounds the threads that connections take while they are made, whatever the number of goroutines.
var dialling = make(chan struct{}, 4)

// Dial connects to a port inside, without any port on the host; it need not be listed in the config. For an
// [net/http.Transport]:
//
//	DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return sandbox.Dial(ctx, 8080) }
func (s *Sandbox) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	type dialled struct {
		conn net.Conn
		err  error
	}
	select {
	case dialling <- struct{}{}:
	case <-ctx.Done():
		return nil, s.gaveUp(ctx, "was not connected to")
	}
	done := make(chan dialled, 1)
	go func() {
		defer func() { <-dialling }()
		failure := newFailure()
		fd := C.sbx_connect(s.handle, C.uint32_t(port), failure)
		if err := s.result("dial", fd, failure); err != nil {
			done <- dialled{err: err}
			return
		}
		file := os.NewFile(uintptr(fd), "sbx connection")
		defer file.Close()
		conn, err := net.FileConn(file)
		done <- dialled{conn, err}
	}()
	select {
	case made := <-done:
		return made.conn, made.err
	case <-ctx.Done():
		go func() {
			if made := <-done; made.conn != nil {
				made.conn.Close()
			}
		}()
		return nil, s.gaveUp(ctx, "was not connected to")
	}
}

// Close frees the sandbox and ends it if it still runs. Whoever waits for it gets ErrClosed. Its Stdin, Stdout
// and Stderr are closed too; what was dialled stays open. A second Close is an error, and harmless.
func (s *Sandbox) Close() error {
	s.cleanup.Stop()
	for _, stream := range []io.Closer{s.Stdin, s.Stdout, s.Stderr} {
		if file, open := stream.(*os.File); open {
			file.Close()
		}
	}
	if !s.life.free() {
		return s.result("close", C.SBX_EHANDLE, nil)
	}
	return nil
}

// await waits for something to be closed, for the sandbox's Close, and for the context.
func (s *Sandbox) await(ctx context.Context, done <-chan struct{}, what string) error {
	defer runtime.KeepAlive(s)
	select {
	case <-done:
		return nil
	default:
	}
	select {
	case <-done:
		return nil
	case <-s.closed:
		return &Error{Op: "wait", Code: ErrClosed, Message: fmt.Sprintf("sandbox %s was closed", s.id)}
	case <-ctx.Done():
		return s.gaveUp(ctx, what)
	}
}

func (s *Sandbox) gaveUp(ctx context.Context, what string) error {
	return fmt.Errorf("sbx: sandbox %s %s: %w", s.id, what, ctx.Err())
}

// result makes an error of what a call on the sandbox returned. It also keeps the sandbox from the collector
// until the call is over.
func (s *Sandbox) result(op string, code C.int, failure *C.sbx_error) error {
	defer runtime.KeepAlive(s)
	return result(op, code, failure)
}

// happened is told by the queue.
func (l *life) happened(kind EventKind, event Event) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	switch kind {
	case EventStarted:
		once(l.started)
	case EventReady:
		l.answered = true
		once(l.ready)
	case EventFailed, EventExited:
		l.over()
	}
	if l.told != nil {
		event.Sandbox = l.id
		select {
		case l.told <- event:
		default:
		}
	}
}

// settle looks at what events may not have told.
func (l *life) settle() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	state := C.sbx_sandbox_state(l.handle)
	if state < 0 || state == C.SBX_STATE_ENDED || C.sbx_wait(l.handle, 0, nil, nil) == C.SBX_ECLOSED {
		l.over()
		return
	}
	if state >= C.SBX_STATE_RUNNING {
		once(l.started)
	}
	select {
	case <-l.started:
		l.probe()
	default:
	}
}

// probe asks whether the server inside is ready; if it isn't, the library goes on asking, and an event tells.
func (l *life) probe() {
	if C.sbx_wait_ready(l.handle, 0, nil) == 0 {
		l.answered = true
		once(l.ready)
	}
}

// over notes how it ended. The caller holds the lock.
func (l *life) over() {
	end := C.sbx_exit{size: C.sizeof_sbx_exit}
	failure := newFailure()
	l.failure = result("wait", C.sbx_wait(l.handle, 0, &end, failure), failure)
	l.exit = Exit{int(end.code), Reason(end.reason), syscall.Signal(end.signal), time.Duration(end.runtime_ms) * time.Millisecond}
	once(l.ended)
	once(l.started)
	once(l.ready)
	events.forget(l.cookie)
}

// why is the reason if it could not be created.
func (l *life) why() error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.failure
}

// free is for Close and for the collector. It says whether it was the first.
func (l *life) free() bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	first := once(l.closed)
	if first {
		events.forget(l.cookie)
		C.sbx_sandbox_free(l.handle)
	}
	return first
}

// once closes a channel unless it is closed, under a lock of the caller's.
func once(channel chan struct{}) bool {
	select {
	case <-channel:
		return false
	default:
		close(channel)
		return true
	}
}
