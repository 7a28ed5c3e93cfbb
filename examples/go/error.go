package sbx

/*
#include <stdlib.h>
#include <sbx.h>
*/
import "C"

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// A Code says what kind of error it was. Codes are errors themselves, for errors.Is:
//
//	if errors.Is(err, sbx.ErrRunscMissing) { ... }
type Code int

// The codes. The C header has a sentence on each.
const (
	ErrInvalid       Code = C.SBX_EINVALID        // a value that is not allowed; the message names it and the rule
	ErrHandle        Code = C.SBX_EHANDLE         // closed before, or not what it should be
	ErrSize          Code = C.SBX_ESIZE           // a struct's size is impossible
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
	ErrForked        Code = C.SBX_EFORKED         // called in a forked child
	ErrPanic         Code = C.SBX_EPANIC          // a bug in the library
	ErrSystem        Code = C.SBX_ESYSTEM         // a system call failed
	ErrRefused       Code = C.SBX_EREFUSED        // nothing inside accepts connections there
	ErrExec          Code = C.SBX_EEXEC           // the program could not be started in the sandbox
	ErrInternal      Code = C.SBX_EINTERNAL       // a bug in the library
)

// Error is a short text; that of an [Error] says more.
func (c Code) Error() string {
	texts := map[Code]string{
		ErrInvalid: "a value that is not allowed", ErrHandle: "closed, or a wrong handle", ErrSize: "a bad size",
		ErrTimedOut: "the time ran out", ErrClosed: "closed", ErrState: "not possible in this state",
		ErrExists: "the name is taken", ErrNotFound: "not found", ErrUnsupported: "not supported",
		ErrLimit: "a limit is reached", ErrHost: "the host lacks something", ErrRunscMissing: "no runsc was found",
		ErrRunscUnusable: "runsc can't be used", ErrEngine: "the engine failed", ErrForked: "called in a forked child",
		ErrPanic: "the library panicked", ErrSystem: "a system call failed", ErrRefused: "connection refused inside",
		ErrExec: "the program can't be started", ErrInternal: "an inconsistency in the library",
	}
	if text, known := texts[c]; known {
		return text
	}
	return "error " + strconv.Itoa(int(c))
}

// Is makes codes answer to Go's own names for the same.
func (c Code) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return c == ErrNotFound
	case fs.ErrExist:
		return c == ErrExists
	case fs.ErrClosed:
		return c == ErrHandle || c == ErrClosed
	}
	return false
}

// An Error of the library. It unwraps to its code and to the errno of the system call that failed.
type Error struct {
	Op      string
	Code    Code
	Errno   syscall.Errno // or 0
	Message string        // the value or call, the rule, what to do
}

func (e *Error) Error() string { return fmt.Sprintf("sbx: %s: %s", e.Op, e.Message) }

func (e *Error) Unwrap() []error {
	if e.Errno != 0 {
		return []error{e.Code, e.Errno}
	}
	return []error{e.Code}
}

func newFailure() *C.sbx_error { return &C.sbx_error{size: C.sizeof_sbx_error} }

// result makes a Go error of what a call returned, or nil if it succeeded.
func result(op string, code C.int, failure *C.sbx_error) error {
	if code >= 0 {
		return nil
	}
	if failure == nil || failure.code != C.int32_t(code) {
		return &Error{Op: op, Code: Code(code), Message: Code(code).Error()}
	}
	return &Error{op, Code(code), syscall.Errno(failure.os_error), C.GoString(&failure.message[0])}
}

// text copies a string; one with a zero byte in it would be cut short in C, so it is an error.
func (t *texts) text(s string) *C.char {
	if strings.IndexByte(s, 0) >= 0 && t.bad == nil {
		t.bad = &Error{Op: "config", Code: ErrInvalid, Message: fmt.Sprintf("text %q: must not have a zero byte", s)}
	}
	pointer := C.CString(s)
	t.owned = append(t.owned, unsafe.Pointer(pointer))
	return pointer
}

func (t *texts) list(all []string) **C.char {
	size := C.size_t(len(all)) * C.size_t(unsafe.Sizeof((*C.char)(nil)))
	first := (**C.char)(t.zeroed(max(size, 1)))
	places := unsafe.Slice(first, len(all))
	for i := range places {
		places[i] = t.text(all[i])
	}
	return first
}
