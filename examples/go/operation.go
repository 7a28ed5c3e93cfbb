package sbx

// #include <sbx.h>
import "C"

import (
	"context"
	"runtime"
)

// operation is something that was begun in the library: its end is an event.
type operation struct {
	handle  *C.sbx_operation
	subject *subject
}

// common is what C's functions that begin an operation end with.
type common struct {
	queue   *C.sbx_queue
	cookie  C.uint64_t
	op      **C.sbx_operation
	failure *C.sbx_error
}

// begunOperation begins one. What closes is an object whose Close ends the wait for it, or nil.
func begunOperation(ctx context.Context, what, name string, closes *subject, begin func(common) C.int) (*operation, error) {
	return begunReporting(ctx, what, name, closes, nil, begin)
}

// begunReporting begins one whose progress goes to a channel, the latest only, until it has ended or is freed.
func begunReporting(ctx context.Context, what, name string, closes *subject, reports chan [2]uint64, begin func(common) C.int) (*operation, error) {
	var handle *C.sbx_operation
	subject, err := begun(ctx, name, func(it *subject) error {
		it.reports = reports
		if closes != nil {
			it.closed = closes.closed
		}
		it.outcome = func() error {
			return calling(nil, what, func(e *C.sbx_error) C.int { return C.sbx_operation_wait(handle, 0, e) })
		}
		return calling(nil, what, func(e *C.sbx_error) C.int {
			return begin(common{events.handle, C.uint64_t(it.cookie), &handle, e})
		})
	})
	if err != nil {
		return nil, err
	}
	return &operation{handle, subject}, nil
}

// operation begins one of this sandbox's.
func (s *Sandbox) operation(ctx context.Context, what string, begin func(common) C.int) (*operation, error) {
	defer runtime.KeepAlive(s)
	if err := usable(ctx); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, s.subject.gaveUp(ctx, "was not asked to "+what)
	}
	return begunOperation(ctx, what, what+" in "+s.ID(), s.subject, begin)
}

// do waits for its end, gives what take makes of it, and frees it.
func (o *operation) do(ctx context.Context, take func(*operation) error) error {
	defer o.free()
	if err := o.wait(ctx); err != nil || take == nil {
		return err
	}
	return take(o)
}

func (o *operation) wait(ctx context.Context) error {
	if err := o.subject.await(ctx, o.subject.ended, "was not done"); err != nil {
		return err
	}
	return o.subject.why()
}

// free ends it if it still goes on.
func (o *operation) free() {
	o.subject.forget()
	o.subject.mutex.Lock() // not while an event looks at it
	defer o.subject.mutex.Unlock()
	o.subject.reports = nil
	C.sbx_operation_free(o.handle)
}
