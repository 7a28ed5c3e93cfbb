package sbx

// #include <sbx.h>
import "C"

import (
	"context"
	"fmt"
	"strings"
)

// A Status is how a requirement stands.
type Status int

// The ways.
const (
	StatusOK      Status = C.SBX_FINDING_OK
	StatusLimited Status = C.SBX_FINDING_LIMITED // it works, but less well
	StatusMissing Status = C.SBX_FINDING_MISSING // sandboxes can't be created without it
)

// String is the status in a word.
func (s Status) String() string {
	return word(int(s), "ok", "limited", "missing")
}

// A Finding is how one requirement stands.
type Finding struct {
	Status       Status
	Name, Detail string
	Remedy       string // what to do about it, or ""
}

// A Report is what the doctor found.
type Report struct {
	Usable   bool // whether sandboxes can be created here
	Findings []Finding
	JSON     string // all of it as one line of JSON: sbx_report_json in sbx.h says what is in it
}

// String is the report for people.
func (r Report) String() string {
	var text strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&text, "%-8v %s: %s\n", f.Status, f.Name, f.Detail)
		if f.Remedy != "" {
			fmt.Fprintf(&text, "%8s -> %s\n", "", f.Remedy)
		}
	}
	return text.String()
}

// Doctor checks everything that sandboxes need of this machine. What is missing is in the report, and no error.
func Doctor(ctx context.Context) (Report, error) {
	check, err := begunOperation(ctx, "doctor", "the check", nil, func(c common) C.int {
		return C.sbx_runtime_check_begin(nil, c.queue, c.cookie, c.op, c.failure)
	})
	if err != nil {
		return Report{}, err
	}
	var found Report
	err = check.do(ctx, func(op *operation) error {
		var report *C.sbx_report
		err := calling(op, "doctor", func(e *C.sbx_error) C.int { return C.sbx_operation_report(op.handle, &report, e) })
		if err != nil {
			return err
		}
		defer C.sbx_report_free(report)
		found, err = readReport(report)
		return err
	})
	return found, err
}

func readReport(report *C.sbx_report) (Report, error) {
	found := Report{Usable: C.sbx_report_usable(report) == 1, JSON: C.GoString(C.sbx_report_json(report))}
	for i := range C.sbx_report_count(report) {
		f := C.sbx_finding{size: C.sizeof_sbx_finding}
		if err := result("doctor", C.sbx_report_finding(report, C.size_t(i), &f), nil); err != nil {
			return Report{}, err
		}
		found.Findings = append(found.Findings, Finding{
			Status: Status(f.status), Name: C.GoString(f.name), Detail: C.GoString(f.detail), Remedy: C.GoString(f.remedy),
		})
	}
	return found, nil
}
