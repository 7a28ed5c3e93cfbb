// Package sbx puts gVisor sandboxes inside a Go program.
//
// It is a thin layer over the C library libsbx, linked with cgo. Nothing here blocks a thread: what takes time
// is begun, and its end comes as an event over one descriptor that Go's own poller watches. So a thousand
// goroutines may wait on sandboxes, and every wait ends with its context.
//
//	sandbox, err := sbx.Create(ctx, &sbx.Config{
//		Command:        []string{"python3", "-m", "http.server", "12345"},
//		EncryptedPorts: []uint16{12345},
//	})
//	if err != nil { ... }
//	defer sandbox.Close()
//	tunnel, err := sandbox.Tunnel(12345)
//	response, err := tunnel.Client().Get(tunnel.URL)
//
// A [Sandbox] ends with its Close, with the process, or, as a safety net only, with the garbage collector.
package sbx

// #include <stdlib.h>
// #include <sbx.h>
import "C"

import (
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"
)

// Version is the version of the library that is running, such as "0.2.0".
func Version() string { return C.GoString(C.sbx_version()) }

// LogTo sends the library's log lines to a file: 1 errors, 2 warnings, 3 information, 4 debugging, 5 tracing;
// 0 ends that. No secret is logged at any level.
func LogTo(file *os.File, level int) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var code C.int
	if err := raw.Control(func(fd uintptr) { code = C.sbx_log_set_fd(C.int(fd), C.int(level)) }); err != nil {
		return err
	}
	return result("log", code, nil)
}

// A Code says what kind of error it was. Codes are errors themselves, for errors.Is:
//
//	if errors.Is(err, sbx.ErrRunscMissing) { ... }
type Code int

// The codes that a program tells apart. The C header has them all, and a sentence on each.
const (
	ErrInvalid       Code = C.SBX_EINVALID        // a value that is not allowed; the message names it and the rule
	ErrHandle        Code = C.SBX_EHANDLE         // closed before, or not what it should be
	ErrTimedOut      Code = C.SBX_ETIMEDOUT       // the time given ran out
	ErrClosed        Code = C.SBX_ECLOSED         // closed while the call waited
	ErrState         Code = C.SBX_ESTATE          // not possible in the state it is in
	ErrExists        Code = C.SBX_EEXISTS         // the name is taken
	ErrNotFound      Code = C.SBX_ENOTFOUND       // there is no such thing
	ErrUnsupported   Code = C.SBX_EUNSUPPORTED    // the combination or operation is not supported
	ErrLimit         Code = C.SBX_ELIMIT          // a limit of the library or the process is reached
	ErrHost          Code = C.SBX_EHOST           // the host lacks something; the message says how to get it
	ErrRunscMissing  Code = C.SBX_ERUNSC_MISSING  // no runsc was found
	ErrRunscUnusable Code = C.SBX_ERUNSC_UNUSABLE // the runsc that was found can't be used
	ErrEngine        Code = C.SBX_EENGINE         // keeper or runsc failed to start or were lost
	ErrSystem        Code = C.SBX_ESYSTEM         // a system call failed
	ErrRefused       Code = C.SBX_EREFUSED        // nothing inside accepts connections there
	ErrExec          Code = C.SBX_EEXEC           // the program could not be started in the sandbox
	ErrImage         Code = C.SBX_EIMAGE          // an image can't be used or made
)

// Error is the number; an [Error] has the text.
func (c Code) Error() string { return fmt.Sprintf("libsbx: error %d", int(c)) }

// Is makes codes answer to Go's own names for the same.
func (c Code) Is(target error) bool {
	return target == fs.ErrNotExist && c == ErrNotFound ||
		target == fs.ErrExist && c == ErrExists ||
		target == fs.ErrClosed && (c == ErrHandle || c == ErrClosed)
}

// An Error of the library. It unwraps to its code and to the errno of the system call that failed.
type Error struct {
	Op      string
	Code    Code
	Errno   syscall.Errno // or 0
	Message string        // the value or call, the rule, what to do
}

func (e *Error) Error() string { return fmt.Sprintf("sbx: %s: %s", e.Op, e.Message) }

func (e *Error) Unwrap() []error { return []error{e.Code, e.Errno} }

// failed makes an error that the library doesn't know of.
func failed(op string, code Code, format string, arguments ...any) error {
	return &Error{Op: op, Code: code, Message: fmt.Sprintf(format, arguments...)}
}

func newFailure() *C.sbx_error { return &C.sbx_error{size: C.sizeof_sbx_error} }

// calling makes a call, and a Go error of what it returned. The collector leaves the owner alone until that.
func calling(owner any, op string, call func(*C.sbx_error) C.int) error {
	defer runtime.KeepAlive(owner)
	failure := newFailure()
	return result(op, call(failure), failure)
}

// opened makes a file of the descriptor that a call gives. It is non-blocking, so Go's poller watches it: a goroutine
// that reads is parked, not its thread.
func opened(op string, open func(*C.sbx_error) C.int) (*os.File, error) {
	failure := newFailure()
	fd := open(failure)
	if err := result(op, fd, failure); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "sbx "+op), nil
}

// result makes a Go error of what a call returned, or nil if it succeeded.
func result(op string, code C.int, failure *C.sbx_error) error {
	if code >= 0 {
		return nil
	}
	if failure == nil || failure.code != C.int32_t(code) {
		return failed(op, Code(code), "%s", Code(code))
	}
	message := C.GoString(&failure.message[0])
	if Code(code) == ErrHost && strings.Contains(message, "the limits of memory and processor") {
		message += ". Or set Config.Watchdog, and no CPUs: memory is watched then, and a sandbox with more is ended"
	}
	return &Error{op, Code(code), syscall.Errno(failure.os_error), message}
}

// texts are C copies of Go values, freed together.
type texts struct {
	owned []unsafe.Pointer
	bad   error
}

func (t *texts) free() {
	for _, pointer := range t.owned {
		C.free(pointer)
	}
}

// text copies a string; one with a zero byte in it would be cut short in C, so it is an error.
func (t *texts) text(s string) *C.char {
	if strings.IndexByte(s, 0) >= 0 && t.bad == nil {
		t.bad = failed("config", ErrInvalid, "text %q: must not have a zero byte", s)
	}
	pointer := C.CString(s)
	t.owned = append(t.owned, unsafe.Pointer(pointer))
	return pointer
}

// zeroed is memory of C's.
func (t *texts) zeroed(size C.size_t) unsafe.Pointer {
	pointer := C.calloc(1, size)
	t.owned = append(t.owned, pointer)
	return pointer
}

func (t *texts) list(all []string) **C.char {
	first := C.calloc(C.size_t(len(all)+1), C.size_t(unsafe.Sizeof((*C.char)(nil))))
	t.owned = append(t.owned, first)
	for i, place := 0, unsafe.Slice((**C.char)(first), len(all)); i < len(all); i++ {
		place[i] = t.text(all[i])
	}
	return (**C.char)(first)
}
