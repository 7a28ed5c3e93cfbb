package sbx

// #include <sbx.h>
import "C"

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"
)

// A Reason is why a sandbox or a program ended.
type Reason int

// The reasons.
const (
	Exited      Reason = C.SBX_EXIT_EXITED        // by itself
	Signalled   Reason = C.SBX_EXIT_SIGNALLED     // by a signal; the code is 128 + its number
	TimedOut    Reason = C.SBX_EXIT_TIMED_OUT     // its lifetime ran out; the code is 124
	Idle        Reason = C.SBX_EXIT_IDLE          // it was idle for longer than it may be; the code is 124
	Terminated  Reason = C.SBX_EXIT_TERMINATED    // by the host; the code is 137
	OutOfMemory Reason = C.SBX_EXIT_OUT_OF_MEMORY // it needed more than it was given; the code is 137
	EngineLost  Reason = C.SBX_EXIT_ENGINE_LOST   // keeper or gVisor died unasked; the code is 137
)

// String is the reason in words.
func (r Reason) String() string {
	return word(int(r), "exited", "signalled", "timed out", "idle", "terminated", "out of memory", "engine lost")
}

// word is the one with that number, from 1.
func word(number int, words ...string) string {
	if number < 1 || number > len(words) {
		return "unknown"
	}
	return words[number-1]
}

// An Exit is how a sandbox or a program ended.
type Exit struct {
	Code    int
	Reason  Reason
	Signal  syscall.Signal // or 0
	Runtime time.Duration  // from the program's start to its end
}

// subject is what events are about: a sandbox, a program in one, an operation. It doesn't point to the
// object that the caller has, so that the collector sees when nobody has that any more.
type subject struct {
	name    string // for errors
	cookie  uint64
	look    func(*C.sbx_exit, *C.sbx_error) C.int // how it has ended
	probe   func() error                          // why the server inside doesn't answer; a sandbox's only
	free    func()
	told    chan<- Event
	outcome func() error   // how an operation has ended
	reports chan [2]uint64 // of an operation: where its progress goes, or nil
	watch   func() bool    // stops to look at a context that ends it, or nil

	started, ready, ended, closed moment         // when it ends it is also started and as ready as it ever will be
	copied                        sync.WaitGroup // what is copied from it

	mutex           sync.Mutex // held until the handle is there, and for what follows
	asked, answered bool       // whether the server inside is waited for, and answers
	failure         error      // why it didn't start, or why its end can't be known; with exit, as it was when it ended
	exit            Exit
}

// beginning bounds the threads that are in the library at once, however many goroutines begin something.
var beginning = make(chan struct{}, 4)

// usable is an error where there is no context: as a nil pointer it would be a panic.
func usable(ctx context.Context) error {
	if ctx == nil {
		return failed("context", ErrInvalid, "the context is nil: context.Background() is one that never ends")
	}
	return nil
}

// begun begins something whose events it will get. They may come before start returns.
func begun(ctx context.Context, name string, start func(s *subject) error) (*subject, error) {
	if err := usable(ctx); err != nil {
		return nil, err
	}
	if err := errors.Join(ctx.Err(), begin()); err != nil {
		return nil, err
	}
	beginning <- struct{}{}
	defer func() { <-beginning }()
	s := &subject{name: name, started: newMoment(), ready: newMoment(), ended: newMoment(), closed: newMoment()}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	events.mutex.Lock()
	events.last++
	s.cookie = events.last
	events.subjects[s.cookie] = s
	events.mutex.Unlock()
	if err := start(s); err != nil {
		s.forget()
		return nil, err
	}
	return s, nil
}

func (s *subject) forget() {
	events.mutex.Lock()
	defer events.mutex.Unlock()
	delete(events.subjects, s.cookie)
}

// happened is told by the queue. The host may close the channel once it knows of the end: nothing is sent after that.
func (s *subject) happened(event Event) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.closed.Err() != nil || s.ended.Err() != nil {
		return
	}
	if s.told != nil {
		event.Sandbox = s.name
		select {
		case s.told <- event:
		default:
		}
	}
	switch event.Kind {
	case EventStarted, C.SBX_EVENT_PROCESS_STARTED:
		s.started.comes()
	case EventReady:
		s.answered = true
		s.ready.comes()
	case EventFailed, EventExited, C.SBX_EVENT_PROCESS_EXITED:
		s.settleLocked()
	case C.SBX_EVENT_PROGRESS:
		s.reportLocked(event.value)
	case C.SBX_EVENT_OPERATION_DONE, C.SBX_EVENT_POLICY_APPLIED, C.SBX_EVENT_CHECKED:
		s.failure = s.outcome()
		s.ended.comes()
	}
}

// reportLocked passes progress on, in place of an older report that wasn't taken yet.
func (s *subject) reportLocked(value [2]uint64) {
	if s.reports == nil {
		return
	}
	select {
	case <-s.reports:
	default:
	}
	s.reports <- value // this is the only sender: there is room
}

// ask looks whether the server inside answers, if somebody waits for that; the library asks it from then on.
func (s *subject) ask(waits bool) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.asked = s.asked || waits
	if !s.asked {
		return nil
	}
	err := s.probe()
	if err == nil {
		s.answered = true
		s.ready.comes()
	}
	return err
}

// settleLocked looks how it has ended. Who waits reads that without the lock.
func (s *subject) settleLocked() {
	end, failure := C.sbx_exit{size: C.sizeof_sbx_exit}, newFailure()
	code := s.look(&end, failure)
	op := "wait"
	if s.started.Err() == nil {
		op = "start"
	}
	s.failure = result(op, code, failure)
	s.exit = Exit{int(end.code), Reason(end.reason), syscall.Signal(end.signal), time.Duration(end.runtime_ms) * time.Millisecond}
	s.ended.comes()
	s.started.comes()
	s.ready.comes()
	s.forget()
	s.unwatchLocked()
}

func (s *subject) unwatchLocked() {
	if s.watch != nil {
		s.watch()
	}
}

// await waits for something to be closed, for the object's Close, and for the context.
func (s *subject) await(ctx context.Context, done context.Context, what string) error {
	if err := usable(ctx); err != nil {
		return err
	}
	if done.Err() != nil { // before a context that has ended too
		return nil
	}
	select {
	case <-done.Done():
		return nil
	case <-s.closed.Done():
		return failed("wait", ErrClosed, "%s was closed", s.name)
	case <-ctx.Done():
		return s.gaveUp(ctx, what)
	}
}

func (s *subject) gaveUp(ctx context.Context, what string) error {
	return fmt.Errorf("sbx: %s %s: %w", s.name, what, ctx.Err())
}

// wait waits for the end, and for the writers that get the output.
func (s *subject) wait(ctx context.Context) (Exit, error) {
	if err := s.await(ctx, s.ended, "did not end"); err != nil {
		return Exit{}, err
	}
	copied := newMoment()
	go func() {
		s.copied.Wait()
		copied.comes()
	}()
	if err := s.await(ctx, copied, "has output that nobody took"); err != nil {
		return Exit{}, err
	}
	return s.exit, s.failure
}

// begins waits until it was started, which it may not have been.
func (s *subject) begins(ctx context.Context) error {
	return errors.Join(s.await(ctx, s.started, "was not started"), s.why())
}

func (s *subject) why() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.failure
}

// close frees it, unless that was done before.
func (s *subject) close() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.closed.Err() != nil {
		return failed("close", ErrHandle, "%s was closed before", s.name)
	}
	s.closed.comes()
	s.forget()
	s.unwatchLocked()
	s.free()
	return nil
}

// A moment comes once, for all who wait.
type moment struct {
	context.Context
	comes context.CancelFunc
}

func newMoment() moment {
	ctx, cancel := context.WithCancel(context.Background())
	return moment{ctx, cancel}
}
