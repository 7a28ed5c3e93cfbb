package sbx

// #include <sbx.h>
import "C"

import (
	"context"
	"errors"
	"net"
	"runtime"
	"syscall"
	"time"
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
	if config == nil {
		return nil, failed("config", ErrInvalid, "the config is nil: &sbx.Config{} is an idle sandbox's")
	}
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
		s.probe = func() error {
			return calling(nil, "wait ready", func(e *C.sbx_error) C.int { return C.sbx_wait_ready(handle, 0, e) })
		}
		s.free = func() { C.sbx_sandbox_free(handle) }
		return nil
	})
	if err != nil {
		return nil, err
	}
	s := &Sandbox{Streams: noStreams, handle: handle, subject: subject}
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

// Tag is the value of one of the config's Tags, or "".
func (s *Sandbox) Tag(name string) string {
	var texts texts
	defer texts.free()
	defer runtime.KeepAlive(s)
	s.subject.mutex.Lock() // Close frees what the text belongs to
	defer s.subject.mutex.Unlock()
	return C.GoString(C.sbx_sandbox_tag(s.handle, texts.text(name)))
}

// WaitReady waits until the server inside answers: the config's probe, or without one a connection to the first
// port listed. With neither there is nothing to ask: ErrInvalid.
func (s *Sandbox) WaitReady(ctx context.Context) error {
	defer runtime.KeepAlive(s)
	if err := usable(ctx); err != nil {
		return err
	}
	if err := s.subject.ask(true); errors.Is(err, ErrInvalid) {
		return err
	}
	if err := s.subject.await(ctx, s.subject.ready, "was not ready"); err != nil {
		return err
	}
	s.subject.mutex.Lock()
	defer s.subject.mutex.Unlock()
	if s.subject.failure == nil && !s.subject.answered {
		return failed("wait ready", ErrState, "sandbox %s has ended: %v", s.ID(), s.subject.exit.Reason)
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

// Stop asks for a graceful end: the signal (0 is the image's, or SIGTERM), and after the grace what is left is killed. It
// doesn't wait.
func (s *Sandbox) Stop(signal syscall.Signal, grace time.Duration) error {
	if grace < 0 {
		return failed("stop", ErrInvalid, "the grace %v is negative: 0 kills at once", grace)
	}
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
	if policy == nil {
		return failed("policy", ErrInvalid, "the policy is nil: &sbx.Policy{Mode: sbx.Open} is the open one")
	}
	var texts texts
	defer texts.free()
	p, err := policy.build(&texts)
	defer C.sbx_policy_free(p)
	if err != nil {
		return err
	}
	change, err := s.operation(ctx, "set policy", func(c common) C.int {
		return C.sbx_set_policy_begin(s.handle, p, c.queue, c.cookie, c.op, c.failure)
	})
	if err != nil {
		return err
	}
	return change.do(ctx, nil)
}

// Dial connects to a port inside, without any port on the host; it need not be listed in the config. For an
// [net/http.Transport]:
//
//	DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return sandbox.Dial(ctx, 8080) }
func (s *Sandbox) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	var conn net.Conn
	dialled, err := s.operation(ctx, "dial", func(c common) C.int {
		return C.sbx_connect_begin(s.handle, C.uint32_t(port), c.queue, c.cookie, c.op, c.failure)
	})
	if err != nil {
		return nil, err
	}
	err = dialled.do(ctx, func(op *operation) error {
		file, err := opened("dial", func(e *C.sbx_error) C.int { return C.sbx_operation_open_fd(op.handle, e) })
		if err != nil {
			return err
		}
		defer file.Close()
		conn, err = net.FileConn(file)
		return err
	})
	return conn, err
}

// Close frees the sandbox and ends it if it still runs. Whoever waits for it gets ErrClosed. Its streams are
// closed too; what was dialled stays open. It doesn't wait: an exit snapshot ([Config].ExitSnapshot) that isn't stored yet,
// also after Terminate, is given up, so call Wait before. A second Close is an error, and harmless.
func (s *Sandbox) Close() error {
	s.cleanup.Stop()
	s.Streams.close()
	return s.subject.close()
}
