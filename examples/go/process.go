package sbx

// #include <sbx.h>
import "C"

import (
	"context"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"
)

// A Cmd is a program to run in a running sandbox. What isn't set is as for the sandbox's own program.
type Cmd struct {
	Command        []string
	Env, Secrets   map[string]string
	Dir, User      string
	Timeout        time.Duration // how long it may run (default: as long as the sandbox)
	Stdin          io.Reader     // streams are as in [Config]
	Stdout, Stderr io.Writer
	Pipes          Pipe
	Terminal       *Size // a terminal in the place of all streams: [Streams].Terminal
	// KillOnDone kills the program and what it has started when the context given to [Sandbox.Exec] is done, as
	// [os/exec.CommandContext] does. It has ended by SIGKILL then: Code 137, [Signalled].
	KillOnDone bool
}

// A Size of a terminal.
type Size struct{ Rows, Columns uint16 }

// A Process is a program that runs in a sandbox, or has. It ends with the sandbox.
type Process struct {
	Streams
	handle  *C.sbx_process
	subject *subject
	sandbox *Sandbox // which the collector must not end while somebody has the process
	cleanup runtime.Cleanup
}

// Exec runs a program in the sandbox and waits until it was started. A context that ends before kills it;
// afterwards it has no meaning for it, unless the command says KillOnDone.
func (s *Sandbox) Exec(ctx context.Context, cmd *Cmd) (*Process, error) {
	if cmd == nil {
		return nil, failed("exec", ErrInvalid, "the command is nil: &sbx.Cmd{Command: ...} says what to run")
	}
	var handle *C.sbx_process
	subject, err := begun(ctx, "program in "+s.ID(), func(it *subject) error {
		c, err := cmd.build(it.cookie)
		defer C.sbx_exec_config_free(c)
		if err != nil {
			return err
		}
		it.look = func(end *C.sbx_exit, failure *C.sbx_error) C.int { return C.sbx_process_wait(handle, 0, end, failure) }
		it.free = func() { C.sbx_process_free(handle) }
		return calling(s, "exec", func(e *C.sbx_error) C.int { return C.sbx_exec_begin(s.handle, c, &handle, e) })
	})
	if err != nil {
		return nil, err
	}
	p := &Process{Streams: noStreams, handle: handle, subject: subject, sandbox: s}
	p.cleanup = runtime.AddCleanup(p, freed, subject)
	open := func(stream C.int32_t, e *C.sbx_error) C.int { return C.sbx_process_open_fd(handle, stream, e) }
	err = streams{cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Pipes}.connect(subject, &p.Streams, open)
	if err == nil && cmd.Terminal != nil {
		p.Terminal, err = opened("open terminal", func(e *C.sbx_error) C.int { return open(C.SBX_TERMINAL, e) })
	}
	if err == nil {
		err = subject.begins(ctx)
	}
	if err != nil {
		_ = p.Signal(syscall.SIGKILL)
		p.Close()
		return nil, err
	}
	if cmd.KillOnDone {
		subject.killOnDone(ctx, handle)
	}
	return p, nil
}

// killOnDone kills the program when the context is done, until it has ended or was closed. Handles are never used
// again, and it holds nothing of the caller's.
func (s *subject) killOnDone(ctx context.Context, handle *C.sbx_process) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.ended.Err() == nil && s.closed.Err() == nil {
		s.watch = context.AfterFunc(ctx, func() { C.sbx_process_signal(handle, C.int(syscall.SIGKILL), nil) })
	}
}

func (c *Cmd) build(cookie uint64) (*C.sbx_exec_config, error) {
	var b *C.sbx_exec_config
	if err := calling(nil, "exec", func(e *C.sbx_error) C.int { return C.sbx_exec_config_new(&b, e) }); err != nil {
		return nil, err
	}
	var s setting
	defer s.free()
	s.set(C.sbx_exec_config_set_command(b, s.list(c.Command), C.size_t(len(c.Command))))
	s.pairs(c.Env, func(n, v *C.char) C.int { return C.sbx_exec_config_set_env(b, n, v) })
	s.pairs(c.Secrets, func(n, v *C.char) C.int { return C.sbx_exec_config_set_secret(b, n, v) })
	s.text1(c.Dir, func(v *C.char) C.int { return C.sbx_exec_config_set_workdir(b, v) })
	s.text1(c.User, func(v *C.char) C.int { return C.sbx_exec_config_set_user(b, v) })
	s.span("Timeout", c.Timeout, func(ms C.int64_t) C.int { return C.sbx_exec_config_set_timeout_ms(b, ms) })
	s.when(c.Terminal != nil, func() C.int {
		return C.sbx_exec_config_set_pty(b, C.uint32_t(c.Terminal.Rows), C.uint32_t(c.Terminal.Columns))
	})
	streams{c.Stdin, c.Stdout, c.Stderr, c.Pipes}.each(func(stream, mode C.int32_t) {
		s.set(C.sbx_exec_config_set_stream(b, stream, mode))
	})
	s.set(C.sbx_exec_config_set_queue(b, events.handle, C.uint64_t(cookie)))
	return b, s.finish("exec", func(e *C.sbx_error) C.int { return C.sbx_exec_config_check(b, e) })
}

// Wait waits until the program has ended, and the command's writers have all its output.
func (p *Process) Wait(ctx context.Context) (Exit, error) {
	defer runtime.KeepAlive(p)
	return p.subject.wait(ctx)
}

// Signal sends a signal to the program and what it has started.
func (p *Process) Signal(signal syscall.Signal) error {
	return calling(p, "signal", func(e *C.sbx_error) C.int { return C.sbx_process_signal(p.handle, C.int(signal), e) })
}

// Resize gives the program's terminal another size.
func (p *Process) Resize(size Size) error {
	return calling(p, "resize", func(e *C.sbx_error) C.int {
		return C.sbx_process_resize(p.handle, C.uint32_t(size.Rows), C.uint32_t(size.Columns), e)
	})
}

// Close frees the process and closes its streams; it doesn't end the program.
func (p *Process) Close() error {
	p.cleanup.Stop()
	p.Streams.close()
	return p.subject.close()
}

// freed is what the collector does when nobody has an object any more.
func freed(s *subject) { _ = s.close() }

// A Pipe is one of a program's standard streams; add them up where several are meant.
type Pipe int

// The pipes.
const (
	PipeStdin Pipe = 1 << iota
	PipeStdout
	PipeStderr
)

// Streams are those that were asked for as pipes. All are watched by Go's poller. Using another is an error.
type Streams struct {
	Stdin          io.WriteCloser
	Stdout, Stderr io.ReadCloser
	Terminal       io.ReadWriteCloser // of a [Cmd] that has one
}

// A noStream stands where no stream was asked for.
type noStream string

func (n noStream) fail() (int, error) {
	return 0, failed("stream", ErrState, "%s", string(n))
}
func (n noStream) Read([]byte) (int, error)  { return n.fail() }
func (n noStream) Write([]byte) (int, error) { return n.fail() }
func (n noStream) Close() error              { return nil }

var noStreams = Streams{
	Stdin:    noStream("standard input isn't a pipe: set Pipes to PipeStdin"),
	Stdout:   noStream("standard output isn't a pipe: set Pipes to PipeStdout"),
	Stderr:   noStream("standard error isn't a pipe: set Pipes to PipeStderr"),
	Terminal: noStream("there is no terminal: set the Cmd's Terminal"),
}

func (s *Streams) close() {
	for _, stream := range []any{s.Stdin, s.Stdout, s.Stderr, s.Terminal} {
		if file, open := stream.(*os.File); open {
			file.Close()
		}
	}
}

// streams are what a program is asked to have.
type streams struct {
	in       io.Reader
	out, err io.Writer
	pipes    Pipe
}

// merged is whether one writer gets both outputs. Writers that can't be compared are different ones.
func (w streams) merged() (same bool) {
	defer func() { _ = recover() }()
	return w.out != nil && w.out == w.err
}

// each says what becomes of each stream that is something.
func (w streams) each(set func(stream, mode C.int32_t)) {
	if w.in != nil || w.pipes&PipeStdin != 0 {
		set(C.SBX_STDIN, C.SBX_STREAM_DESCRIPTOR)
	}
	if w.out != nil || w.pipes&PipeStdout != 0 {
		set(C.SBX_STDOUT, C.SBX_STREAM_DESCRIPTOR)
	}
	if w.merged() {
		set(C.SBX_STDERR, C.SBX_STREAM_MERGED)
	} else if w.err != nil || w.pipes&PipeStderr != 0 {
		set(C.SBX_STDERR, C.SBX_STREAM_DESCRIPTOR)
	}
}

// connect opens the streams, and begins to copy where there are readers and writers.
func (w streams) connect(s *subject, to *Streams, open func(C.int32_t, *C.sbx_error) C.int) (err error) {
	w.each(func(stream, mode C.int32_t) {
		if mode == C.SBX_STREAM_MERGED || err != nil {
			return
		}
		var file *os.File
		file, err = opened("open stream", func(e *C.sbx_error) C.int { return open(stream, e) })
		if err != nil {
			return
		}
		switch {
		case stream == C.SBX_STDIN && w.in != nil:
			go func() { // that the program wants no more is no error
				defer file.Close()
				_, _ = io.Copy(file, w.in)
			}()
		case stream == C.SBX_STDIN:
			to.Stdin = file
		case stream == C.SBX_STDOUT && w.out != nil:
			s.copy(w.out, file)
		case stream == C.SBX_STDOUT:
			to.Stdout = file
		case w.err != nil:
			s.copy(w.err, file)
		default:
			to.Stderr = file
		}
	})
	return err
}

func (s *subject) copy(to io.Writer, from *os.File) {
	s.copied.Add(1)
	go func() {
		defer s.copied.Done()
		defer from.Close()
		if _, err := io.Copy(to, from); err != nil {
			// The writer takes no more; the program must not hang for that.
			_, _ = io.Copy(io.Discard, from)
		}
	}()
}
