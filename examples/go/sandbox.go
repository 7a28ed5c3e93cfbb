package sbx

// #include <sbx.h>
import "C"

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"
)

// A Sandbox. Any goroutine may call any method at any time.
type Sandbox struct {
	Streams
	handle  *C.sbx_sandbox
	subject *subject
	cleanup runtime.Cleanup
}

// Create creates a sandbox and waits until its program was started. A context that ends before ends the
// sandbox; afterwards it has no meaning for it.
func Create(ctx context.Context, config *Config) (*Sandbox, error) {
	var handle *C.sbx_sandbox
	subject, err := begun(ctx, "sandbox", func(s *subject) error {
		c, err := config.build(s.cookie)
		defer C.sbx_config_free(c)
		if err != nil {
			return err
		}
		create := func(e *C.sbx_error) C.int { return C.sbx_create_begin(nil, c, &handle, e) }
		if err := calling(nil, "create", create); err != nil {
			return err
		}
		s.name = C.GoString(C.sbx_sandbox_id(handle))
		s.told = config.Events
		s.look = func(end *C.sbx_exit, failure *C.sbx_error) C.int { return C.sbx_wait(handle, 0, end, failure) }
		s.probe = func() bool { return C.sbx_wait_ready(handle, 0, nil) == 0 }
		s.free = func() { C.sbx_sandbox_free(handle) }
		return nil
	})
	if err != nil {
		return nil, err
	}
	s := &Sandbox{handle: handle, subject: subject}
	s.cleanup = runtime.AddCleanup(s, freed, subject)
	err = subject.begins(ctx)
	if err == nil {
		err = streams{config.Stdin, config.Stdout, config.Stderr, config.Pipes}.connect(subject, &s.Streams,
			func(stream C.int32_t, e *C.sbx_error) C.int { return C.sbx_sandbox_open_fd(handle, stream, e) })
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// ID is "sb-" and 16 hexadecimal digits.
func (s *Sandbox) ID() string { return s.subject.name }

// WaitReady waits until the server inside answers: the config's probe, or without one a connection to the first
// port listed.
func (s *Sandbox) WaitReady(ctx context.Context) error {
	defer runtime.KeepAlive(s)
	s.subject.ask(true)
	if err := s.subject.await(ctx, s.subject.ready, "was not ready"); err != nil {
		return err
	}
	s.subject.mutex.Lock()
	defer s.subject.mutex.Unlock()
	if s.subject.failure == nil && !s.subject.answered {
		return failed("wait ready", ErrState, "sandbox %s has ended", s.ID())
	}
	return s.subject.failure
}

// Wait waits until the sandbox has ended, nothing of it is left, and the config's writers have all its output.
func (s *Sandbox) Wait(ctx context.Context) (Exit, error) {
	defer runtime.KeepAlive(s)
	return s.subject.wait(ctx)
}

// Terminate asks for the end, with code 137 and [Terminated]. It doesn't wait, and may be called at any time and
// any number of times.
func (s *Sandbox) Terminate() error {
	return calling(s, "terminate", func(e *C.sbx_error) C.int { return C.sbx_terminate(s.handle, e) })
}

// Stop asks for a graceful end: the signal, and after the grace what is left is killed. It doesn't wait.
func (s *Sandbox) Stop(signal syscall.Signal, grace time.Duration) error {
	return calling(s, "stop", func(e *C.sbx_error) C.int {
		return C.sbx_stop(s.handle, C.int(signal), milliseconds(grace), e)
	})
}

// Signal sends a signal to the program.
func (s *Sandbox) Signal(signal syscall.Signal) error {
	return calling(s, "signal", func(e *C.sbx_error) C.int { return C.sbx_signal(s.handle, C.int(signal), e) })
}

// SetPolicy puts another policy in the place of the one in force, and waits until that is done: what it denies has
// been reset then. Where it fails the old one stays in force.
func (s *Sandbox) SetPolicy(ctx context.Context, policy *Policy) error {
	defer runtime.KeepAlive(s)
	applied, err := begun(ctx, "policy of "+s.ID(), func(it *subject) error {
		it.closed = s.subject.closed
		var texts texts
		defer texts.free()
		p, err := policy.build(&texts)
		defer C.sbx_policy_free(p)
		if err != nil {
			return err
		}
		return calling(s, "set policy", func(e *C.sbx_error) C.int {
			return C.sbx_set_policy_begin(s.handle, p, C.uint64_t(it.cookie), e)
		})
	})
	if err != nil {
		return err
	}
	defer applied.forget()
	return errors.Join(applied.await(ctx, applied.ended, "was not applied"), applied.why())
}

// dialling bounds the threads that connections take while they are made, however many goroutines dial.
var dialling = make(chan struct{}, 4)

// Dial connects to a port inside, without any port on the host; it need not be listed in the config. For an
// [net/http.Transport]:
//
//	DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return sandbox.Dial(ctx, 8080) }
func (s *Sandbox) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	select {
	case dialling <- struct{}{}:
	case <-ctx.Done():
		return nil, s.subject.gaveUp(ctx, "was not connected to")
	}
	conn, err := (net.Conn)(nil), error(nil)
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		if <-done; conn != nil {
			conn.Close()
		}
	})
	go func() {
		defer runtime.KeepAlive(s)
		defer close(done)
		defer func() { <-dialling }()
		var file *os.File
		file, err = opened("dial", func(e *C.sbx_error) C.int { return C.sbx_connect(s.handle, C.uint32_t(port), e) })
		if err == nil {
			defer file.Close()
			conn, err = net.FileConn(file)
		}
	}()
	select {
	case <-done:
		if stop() {
			return conn, err
		}
	case <-ctx.Done():
	}
	return nil, s.subject.gaveUp(ctx, "was not connected to")
}

// Stats are what a sandbox uses and has done, as the C header's sbx_stats.
type Stats struct {
	size                                                  uint32
	Known                                                 uint32 // which can be unknown and are known: SBX_STATS_...
	UptimeMillis, CPUMicros                               int64
	MemoryBytes, MemoryPeakBytes                          uint64 // on the host, gVisor's own included
	Processes, TunnelConnections                          uint32 // now
	TunnelConnectionsTotal, TunnelBytesIn, TunnelBytesOut uint64
	EgressFlows, _                                        uint32 // now
	EgressFlowsTotal, EgressBytesIn, EgressBytesOut       uint64
	EgressDenied, DNSQueries, DNSRefused                  uint64
}

// Stats says what it uses and has done; of an ended one, what it had used in all.
func (s *Sandbox) Stats() (stats Stats, err error) {
	stats.size = uint32(unsafe.Sizeof(stats))
	err = calling(s, "stats", func(e *C.sbx_error) C.int {
		return C.sbx_sandbox_stats(s.handle, (*C.sbx_stats)(unsafe.Pointer(&stats)), e)
	})
	return stats, err
}

// Close frees the sandbox and ends it if it still runs. Whoever waits for it gets ErrClosed. Its streams are
// closed too; what was dialled stays open. A second Close is an error, and harmless.
func (s *Sandbox) Close() error {
	s.cleanup.Stop()
	s.Streams.close()
	if !s.subject.close() {
		return result("close", C.SBX_EHANDLE, nil)
	}
	return nil
}
