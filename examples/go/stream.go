package sbx

/*
#include <sbx.h>
*/
import "C"

import (
	"io"
	"os"
)

// open opens the streams that the config asked for. All are non-blocking, so that the poller waits for them.
func (s *Sandbox) open(config *Config) error {
	if config.Stdin != nil || config.Pipes&PipeStdin != 0 {
		file, err := s.file(C.SBX_STDIN, "stdin")
		if err != nil {
			return err
		}
		s.Stdin = file
		if config.Stdin != nil {
			s.Stdin = nil
			go feed(file, config.Stdin)
		}
	}
	for _, output := range []struct {
		stream C.int32_t
		name   string
		pipe   Stream
		writer io.Writer
		reader *io.ReadCloser
	}{
		{C.SBX_STDOUT, "stdout", PipeStdout, config.Stdout, &s.Stdout},
		{C.SBX_STDERR, "stderr", PipeStderr, config.Stderr, &s.Stderr},
	} {
		if output.writer == nil && config.Pipes&output.pipe == 0 || output.stream == C.SBX_STDERR && config.merged() {
			continue
		}
		file, err := s.file(output.stream, output.name)
		if err != nil {
			return err
		}
		if output.writer == nil {
			*output.reader = file
			continue
		}
		s.copied.Add(1)
		go func() {
			defer s.copied.Done()
			defer file.Close()
			if _, err := io.Copy(output.writer, file); err != nil {
				// The writer takes no more; the program must not hang for that.
				_, _ = io.Copy(io.Discard, file)
			}
		}()
	}
	return nil
}

// feed copies to the program's standard input. That the program doesn't want it any more is no error.
func feed(file *os.File, reader io.Reader) {
	defer file.Close()
	_, _ = io.Copy(file, reader)
}

func (s *Sandbox) file(stream C.int32_t, name string) (*os.File, error) {
	failure := newFailure()
	fd := C.sbx_sandbox_open_fd(s.handle, stream, failure)
	if err := s.result("open "+name, fd, failure); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "sbx "+name), nil
}
