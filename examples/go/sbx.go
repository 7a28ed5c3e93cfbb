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

/*
#include <stdlib.h>
#include <sbx.h>
*/
import "C"

import (
	"os"
	"runtime"
	"unsafe"
)

// Version is the version of the library that is running, such as "0.1.0".
func Version() string { return C.GoString(C.sbx_version()) }

// LogTo sends the library's log lines to a file: 1 errors, 2 warnings, 3 information, 4 debugging, 5 tracing.
// A nil file ends that. No secret is logged at any level.
func LogTo(file *os.File, level int) error {
	descriptor := -1
	if file == nil {
		return result("log", C.sbx_log_set_fd(-1, 0), nil)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var code C.int
	err = raw.Control(func(fd uintptr) {
		descriptor = int(fd)
		code = C.sbx_log_set_fd(C.int(descriptor), C.int(level))
	})
	if err != nil {
		return err
	}
	return result("log", code, nil)
}

// RuntimeOptions are what a [Runtime] is made with. The zero value suits nearly everybody.
type RuntimeOptions struct {
	Runsc           string // the runsc to use; "": SBX_RUNSC, PATH, and the well-known places
	Keeper          string // an installed copy of the keeper instead of the embedded one
	NoUserNamespace bool   // only for a host with CAP_SYS_ADMIN and CAP_NET_ADMIN without user namespaces
}

func (o *RuntimeOptions) c(texts *texts) *C.sbx_runtime_config {
	config := (*C.sbx_runtime_config)(texts.zeroed(C.sizeof_sbx_runtime_config))
	config.size = C.sizeof_sbx_runtime_config
	if o.Runsc != "" {
		config.runsc = texts.text(o.Runsc)
	}
	if o.Keeper != "" {
		config.keeper = texts.text(o.Keeper)
	}
	if o.NoUserNamespace {
		config.flags = C.SBX_RUNTIME_NO_USER_NAMESPACE
	}
	return config
}

// A Runtime is two threads of the library's, however many sandboxes it has. The package's own functions use a
// default one, which is made when it is first needed and lives as long as the process.
type Runtime struct {
	handle  *C.sbx_runtime
	cleanup runtime.Cleanup
}

// NewRuntime makes a runtime. It is one of the few calls that hold a thread, for some milliseconds.
func NewRuntime(options RuntimeOptions) (*Runtime, error) {
	var texts texts
	defer texts.free()
	config := options.c(&texts)
	if texts.bad != nil {
		return nil, texts.bad
	}
	r := &Runtime{}
	failure := newFailure()
	if err := result("new runtime", C.sbx_runtime_new(config, &r.handle, failure), failure); err != nil {
		return nil, err
	}
	r.cleanup = runtime.AddCleanup(r, func(handle *C.sbx_runtime) { C.sbx_runtime_free(handle) }, r.handle)
	return r, nil
}

// Close ends the runtime and all its sandboxes, and waits for that, holding a thread (bounded).
func (r *Runtime) Close() error {
	if r.handle == nil {
		return &Error{Op: "close runtime", Code: ErrHandle, Message: "the runtime was closed before"}
	}
	r.cleanup.Stop()
	C.sbx_runtime_free(r.handle)
	r.handle = nil
	events.settle()
	return nil
}

// Info is one line of a list of sandboxes.
type Info struct {
	ID, Name string
	State    State
}

// Sandboxes lists the sandboxes that have not ended. A nil runtime is the default one.
func (r *Runtime) Sandboxes() ([]Info, error) {
	var list *C.sbx_sandbox_list
	failure := newFailure()
	if err := result("list", C.sbx_runtime_sandboxes(r.c(), &list, failure), failure); err != nil {
		return nil, err
	}
	defer C.sbx_sandbox_list_free(list)
	infos := make([]Info, max(0, C.sbx_sandbox_list_count(list)))
	for i := range infos {
		at := C.size_t(i)
		infos[i] = Info{
			ID:    C.GoString(C.sbx_sandbox_list_id(list, at)),
			Name:  C.GoString(C.sbx_sandbox_list_name(list, at)),
			State: State(C.sbx_sandbox_list_state(list, at)),
		}
	}
	return infos, nil
}

func (r *Runtime) c() *C.sbx_runtime {
	if r == nil {
		return nil
	}
	return r.handle
}

// A Finding of the doctor: something that sandboxes need of this machine.
type Finding struct {
	Name, Detail, Remedy string
	Missing              bool // sandboxes can't be created before the remedy was applied
	Limited              bool // it works, but less well
}

// Check asks the doctor what this machine lacks for sandboxes, and what to do about it. It holds a thread for
// some hundred milliseconds, since it runs runsc.
func Check(options RuntimeOptions) ([]Finding, error) {
	var texts texts
	defer texts.free()
	config := options.c(&texts)
	if texts.bad != nil {
		return nil, texts.bad
	}
	var report *C.sbx_report
	failure := newFailure()
	if err := result("check", C.sbx_runtime_check(config, &report, failure), failure); err != nil {
		return nil, err
	}
	defer C.sbx_report_free(report)
	findings := make([]Finding, max(0, C.sbx_report_count(report)))
	for i := range findings {
		at := C.size_t(i)
		status := C.sbx_report_status(report, at)
		findings[i] = Finding{
			Name:    C.GoString(C.sbx_report_name(report, at)),
			Detail:  C.GoString(C.sbx_report_detail(report, at)),
			Remedy:  C.GoString(C.sbx_report_remedy(report, at)),
			Missing: status == C.SBX_FINDING_MISSING,
			Limited: status == C.SBX_FINDING_LIMITED,
		}
	}
	return findings, nil
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

func (t *texts) zeroed(size C.size_t) unsafe.Pointer {
	pointer := C.calloc(1, size)
	t.owned = append(t.owned, pointer)
	return pointer
}
