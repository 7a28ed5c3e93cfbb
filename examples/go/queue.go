package sbx

// #include <sbx.h>
import "C"

import (
	"os"
	"sync"
)

// An EventKind says what happened. Later libraries have more: skip what you don't know.
type EventKind int

// What happens to sandboxes.
const (
	EventStarted     EventKind = C.SBX_EVENT_STARTED     // the program was started
	EventFailed      EventKind = C.SBX_EVENT_FAILED      // it could not be created
	EventReady       EventKind = C.SBX_EVENT_READY       // the server inside answers, for the first time
	EventExited      EventKind = C.SBX_EVENT_EXITED      // it has ended, and nothing of it is left
	EventDenied      EventKind = C.SBX_EVENT_DENIED      // it tried to reach what its policy doesn't allow
	EventLimit       EventKind = C.SBX_EVENT_LIMIT       // a limit of the library was reached
	EventUnreachable EventKind = C.SBX_EVENT_UNREACHABLE // what it may reach did not take it
)

// An Event is something that happened to a sandbox: see [Config].Events.
type Event struct {
	Kind           EventKind
	Sandbox        string       // its id
	Lost           uint64       // how many events of all sandboxes were dropped just after this one
	Code           int          // an exit code, an error's number, or why it was unreachable: an errno
	Reason         Reason       // why it ended, or 0
	Denial         PolicyReason // why EventDenied, or 0
	Entry          int          // the place of the policy's entry concerned, or -1
	Protocol, Port int          // an IP protocol (6 is TCP) and a port, or 0
	Count          int          // how many times it happened, where events are gathered
	Address        string       // an address or a name, or ""
	Detail         string       // a text for people, or ""

	value [2]uint64
}

// queue is the one queue of this process: a goroutine waits for its descriptor in Go's own poller and tells
// the subject that has the event's cookie.
type queue struct {
	handle   *C.sbx_queue
	doorbell *os.File

	mutex    sync.Mutex
	last     uint64
	subjects map[uint64]*subject
}

var events = queue{subjects: map[uint64]*subject{}}

// begin makes the queue when it is first needed.
var begin = sync.OnceValue(func() error {
	// So many events may wait; those that somebody waits for are never dropped.
	err := calling(nil, "event queue", func(e *C.sbx_error) C.int { return C.sbx_queue_new(4096, &events.handle, e) })
	if err == nil {
		open := func(e *C.sbx_error) C.int { return C.sbx_queue_open_fd(events.handle, e) }
		events.doorbell, err = opened("event queue", open)
	}
	if err == nil {
		go events.run()
	}
	return err
})

func (q *queue) run() {
	rings := make([]byte, 256)
	for {
		// The bytes mean nothing. The queue lives as long as the process: there is no end of file.
		if _, err := q.doorbell.Read(rings); err != nil {
			return
		}
		event := C.sbx_event{size: C.sizeof_sbx_event}
		for C.sbx_queue_next(q.handle, &event, nil) == 1 {
			reason, denial := Reason(event.reason), PolicyReason(0)
			if event.kind == C.SBX_EVENT_DENIED {
				reason, denial = 0, PolicyReason(event.reason)
			}
			q.tell(uint64(event.cookie), Event{
				Kind:     EventKind(event.kind),
				Lost:     uint64(event.lost),
				Code:     int(event.code),
				Reason:   reason,
				Denial:   denial,
				Entry:    int(event.entry),
				Protocol: int(event.protocol),
				Port:     int(event.port),
				Count:    int(event.count),
				Address:  C.GoString(&event.address[0]),
				Detail:   C.GoString(&event.detail[0]),
				value:    [2]uint64{uint64(event.value[0]), uint64(event.value[1])},
			})
		}
	}
}

func (q *queue) tell(cookie uint64, event Event) {
	q.mutex.Lock()
	subject := q.subjects[cookie]
	if event.Lost > 0 { // that a server answers may be among them; ends never are
		for _, each := range q.subjects {
			go each.ask(false)
		}
	}
	q.mutex.Unlock()
	if subject != nil {
		subject.happened(event)
	}
}
