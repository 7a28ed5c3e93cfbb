package sbx

// #include <sbx.h>
import "C"

import (
	"context"
	"fmt"
	"time"
)

// A Reading is something that can't be known everywhere.
type Reading[T any] struct {
	Value T // its zero value where it isn't known
	Known bool
}

// String is the value, or "unknown".
func (r Reading[T]) String() string {
	if !r.Known {
		return "unknown"
	}
	return fmt.Sprintf("%+v", r.Value)
}

// Stats are what a sandbox uses and has done, as the C header's sbx_stats.
type Stats struct {
	Uptime             time.Duration
	CPU                Reading[time.Duration] // of all its processes on the host, gVisor's own included
	Memory, MemoryPeak Reading[uint64]        // on the host, gVisor's own included
	Processes          Reading[uint32]        // as the sandbox says

	TunnelConnections             uint32 // now
	TunnelConnectionsTotal        uint64
	TunnelBytesIn, TunnelBytesOut uint64

	Egress  Reading[EgressStats]
	Library time.Duration // what the library's threads have spent on it
}

// EgressStats are what leaves a sandbox and comes back.
type EgressStats struct {
	Flows                  uint32 // now
	FlowsTotal             uint64
	BytesIn, BytesOut      uint64
	Denied                 uint64
	DNSQueries, DNSRefused uint64
}

// Stats says what it uses and has done; of an ended one, what it had used in all.
func (s *Sandbox) Stats(ctx context.Context) (Stats, error) {
	raw := C.sbx_stats{size: C.sizeof_sbx_stats}
	asked, err := s.operation(ctx, "stats", func(c common) C.int {
		return C.sbx_sandbox_stats_begin(s.handle, c.queue, c.cookie, c.op, c.failure)
	})
	if err != nil {
		return Stats{}, err
	}
	err = asked.do(ctx, func(op *operation) error {
		return calling(op, "stats", func(e *C.sbx_error) C.int { return C.sbx_operation_stats(op.handle, &raw, e) })
	})
	if err != nil {
		return Stats{}, err
	}
	known := func(bit C.uint32_t) bool { return raw.known&bit != 0 }
	return Stats{
		Uptime:                 time.Duration(raw.uptime_ms) * time.Millisecond,
		CPU:                    Reading[time.Duration]{time.Duration(raw.cpu_us) * time.Microsecond, known(C.SBX_STATS_CPU)},
		Memory:                 Reading[uint64]{uint64(raw.memory_bytes), known(C.SBX_STATS_MEMORY)},
		MemoryPeak:             Reading[uint64]{uint64(raw.memory_peak_bytes), known(C.SBX_STATS_MEMORY_PEAK)},
		Processes:              Reading[uint32]{uint32(raw.processes), known(C.SBX_STATS_PROCESSES)},
		TunnelConnections:      uint32(raw.tunnel_connections),
		TunnelConnectionsTotal: uint64(raw.tunnel_connections_total),
		TunnelBytesIn:          uint64(raw.tunnel_bytes_in),
		TunnelBytesOut:         uint64(raw.tunnel_bytes_out),
		Egress: Reading[EgressStats]{EgressStats{
			Flows:      uint32(raw.egress_flows),
			FlowsTotal: uint64(raw.egress_flows_total),
			BytesIn:    uint64(raw.egress_bytes_in),
			BytesOut:   uint64(raw.egress_bytes_out),
			Denied:     uint64(raw.egress_denied),
			DNSQueries: uint64(raw.dns_queries),
			DNSRefused: uint64(raw.dns_refused),
		}, known(C.SBX_STATS_EGRESS)},
		Library: time.Duration(raw.library_us) * time.Microsecond,
	}, nil
}
