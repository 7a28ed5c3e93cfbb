package sbx

// #include <sbx.h>
import "C"

import (
	"io"
	"math"
	"net/netip"
	"runtime"
	"time"
)

// A Config is what a sandbox is asked to be. The zero value of every field is a good default; without a Command
// the sandbox is idle and runs what [Sandbox.Exec] gives it. A Config is only read: one makes any number of
// sandboxes, also at the same time.
type Config struct {
	Command     []string          // the program and its arguments
	Env         map[string]string // never logged, never written to a file
	Secrets     map[string]string // the same, forgotten as soon as they are passed on
	Dir         string            // where it starts (default "/")
	User        string            // "name", "uid", "uid:gid" or "name:group" of the sandbox (default its root)
	Hostname    string
	Name        string            // no two live sandboxes have the same
	Tags        map[string]string // for your own use: [Sandbox.Tag]
	Rootfs      string            // a directory of the host (default: a curated view of the host's programs)
	Image       *Image            // a root file system with its settings; what is set here comes before them
	ImageMounts map[string]*Image // images whose files are shown at paths inside, read-only
	Entrypoint  []string          // in place of the image's; Command are its arguments
	NoCommand   bool              // not the image's either: idle, for [Sandbox.Exec]

	ExitSnapshot    bool   // what it has on an image at its end is a new one: [Sandbox.ExitImage]; Wait before Close
	ExitSnapshotTag string // and its name

	Mounts      []Mount
	Volumes     []VolumeMount // named directories that outlive the sandbox
	Timeout     time.Duration // how long it may live (default 300 s)
	IdleTimeout time.Duration // how long it may be idle (default: as long as it lives)

	Memory                     uint64  // bytes, gVisor's own 20 MB included
	CPUs                       float64 // processors
	MaxProcesses, MaxOpenFiles int
	Disk                       uint64 // bytes that may be written
	Watchdog                   bool   // where the kernel can't hold Memory, it is watched, instead of an error

	EncryptedPorts   []uint16                  // tunnels on which the library ends TLS
	H2Ports          []uint16                  // the same, also offering HTTP/2
	UnencryptedPorts []uint16                  // tunnels of raw TCP
	Bind             map[uint16]netip.AddrPort // where tunnels listen (default 127.0.0.1, a port of the kernel's)
	// HostServices are ports of 192.0.0.1 inside that lead to addresses of the host, whatever the policy: a proxy, say.
	HostServices map[uint16]netip.AddrPort
	// TunnelRate is how many new connections a second the tunnels take while another sandbox is served, up to 1,000,000;
	// 0 is the default, 250 for each processor, and a negative number no limit.
	TunnelRate int
	// InboundCIDRAllowlist is who may connect to the tunnels. nil is everybody, an empty list nobody.
	InboundCIDRAllowlist []netip.Prefix
	TLSNames             []string // further names and addresses for the library's certificate
	CertPEM, KeyPEM      string   // a certificate of the host's own instead
	Policy               *Policy  // what it may reach (default: any public address)
	// Nameservers are asked by its resolver instead of the host's own; port 0 is 53.
	Nameservers  []netip.AddrPort
	EgressLimits EgressLimits
	MTU          int // of its interface, from 1280 to 9000 (default 1500)

	// Stdin is copied to the program until it ends; Stdout and Stderr get what the program writes, and
	// [Sandbox.Wait] waits until they have it. nil is /dev/null. If Stdout and Stderr are the same they get both.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Pipes          Pipe // the streams that the host reads or writes itself: [Streams]

	Probe Probe // how to see that the server inside is ready (default: a connection to the first port)
	// Events gets what happens. Nobody waits for room in it: make it large enough. It may be closed once Create has
	// failed, Wait has told the end, or Close has returned, of each sandbox that has it: nothing is sent after that.
	Events chan<- Event
}

// EgressLimits are budgets of what leaves a sandbox; 0 is the default or none.
type EgressLimits struct {
	MaxFlows          uint32 // one more at once is reset (default 16,384)
	NewFlowsPerSecond uint32 // one more is reset (default 200, and 2,000 at once after a quiet while)
	BytesPerSecond    uint64 // of both directions together; beyond it senders are slowed down
	TotalBytes        uint64 // when so many have passed, every flow is reset
}

// A Mount shows a file or directory of the host inside. Both paths are absolute.
type Mount struct {
	Source, Target string
	Writable       bool
}

// A Probe asks every Interval whether the server inside is ready: by a connection to Port, or by a Command that
// ends with 0.
type Probe struct {
	Port     uint16
	Command  []string
	Interval time.Duration // default 100 ms
}

// setting is a config of the library's in the making. Its setters are sticky: the first bad value is kept, and
// said at the end.
type setting struct {
	texts
	code C.int // not the first, but one that says that there is something
}

func (s *setting) set(code C.int) { s.code = min(s.code, code) }

func (s *setting) text1(value string, set func(*C.char) C.int) {
	if value != "" {
		s.set(set(s.text(value)))
	}
}

func (s *setting) pairs(all map[string]string, set func(name, value *C.char) C.int) {
	for name, value := range all {
		s.set(set(s.text(name), s.text(value)))
	}
}

func (s *setting) ports(all []uint16, set func(C.uint32_t) C.int) {
	for _, port := range all {
		s.set(set(C.uint32_t(port)))
	}
}

// span sets a time; 0 is the default.
func (s *setting) span(name string, d time.Duration, set func(ms C.int64_t) C.int) {
	if d < 0 && s.bad == nil {
		s.bad = failed("config", ErrInvalid, "%s: %v is negative; 0 is the default", name, d)
	}
	s.when(d > 0, func() C.int { return set(milliseconds(d)) })
}

// count sets a number; 0 is the default.
func (s *setting) count(name string, n int, set func(C.uint32_t) C.int) {
	if (n < 0 || n > math.MaxUint32) && s.bad == nil {
		s.bad = failed("config", ErrInvalid, "%s: %d is out of range; 0 is the default", name, n)
	}
	s.when(n > 0, func() C.int { return set(C.uint32_t(n)) })
}

func (s *setting) when(asked bool, set func() C.int) {
	if asked {
		s.set(set())
	}
}

// finish says what is wrong, asking the config for its own words.
func (s *setting) finish(op string, check func(*C.sbx_error) C.int) error {
	if s.bad != nil {
		return s.bad
	}
	if err := calling(nil, op, check); err != nil {
		return err
	}
	return result(op, s.code, nil)
}

// build makes the library's config, with events under this cookie. The caller frees it, whatever happens.
func (c *Config) build(cookie uint64) (*C.sbx_config, error) {
	var b *C.sbx_config
	if err := calling(nil, "config", func(e *C.sbx_error) C.int { return C.sbx_config_new(&b, e) }); err != nil {
		return nil, err
	}
	var s setting
	defer s.free()
	defer runtime.KeepAlive(c) // its images
	s.when(len(c.Command) > 0, func() C.int { return C.sbx_config_set_command(b, s.list(c.Command), C.size_t(len(c.Command))) })
	s.pairs(c.Env, func(n, v *C.char) C.int { return C.sbx_config_set_env(b, n, v) })
	s.pairs(c.Secrets, func(n, v *C.char) C.int { return C.sbx_config_set_secret(b, n, v) })
	s.text1(c.Dir, func(v *C.char) C.int { return C.sbx_config_set_workdir(b, v) })
	s.text1(c.User, func(v *C.char) C.int { return C.sbx_config_set_user(b, v) })
	s.text1(c.Hostname, func(v *C.char) C.int { return C.sbx_config_set_hostname(b, v) })
	s.text1(c.Name, func(v *C.char) C.int { return C.sbx_config_set_name(b, v) })
	s.pairs(c.Tags, func(n, v *C.char) C.int { return C.sbx_config_set_tag(b, n, v) })
	s.text1(c.Rootfs, func(v *C.char) C.int { return C.sbx_config_set_rootfs(b, v) })
	s.when(c.Image != nil, func() C.int { return C.sbx_config_set_image(b, c.Image.handle) })
	for target, image := range c.ImageMounts {
		s.set(image.mount(b, s.text(target)))
	}
	s.when(c.Entrypoint != nil, func() C.int {
		return C.sbx_config_set_entrypoint(b, s.list(c.Entrypoint), C.size_t(len(c.Entrypoint)))
	})
	s.when(c.ExitSnapshot || c.ExitSnapshotTag != "", func() C.int {
		if c.ExitSnapshotTag == "" {
			return C.sbx_config_set_exit_snapshot(b, nil)
		}
		return C.sbx_config_set_exit_snapshot(b, s.text(c.ExitSnapshotTag))
	})
	s.when(c.NoCommand, func() C.int { return C.sbx_config_set_no_command(b) })
	for _, mount := range c.Mounts {
		source, target := s.text(mount.Source), s.text(mount.Target)
		flags := C.uint32_t(C.SBX_MOUNT_READ_ONLY)
		if mount.Writable {
			flags = C.SBX_MOUNT_WRITABLE
		}
		s.set(C.sbx_config_add_mount(b, source, target, flags))
	}
	for i := range c.Volumes {
		s.set(c.Volumes[i].add(b, &s.texts))
	}
	s.span("Timeout", c.Timeout, func(ms C.int64_t) C.int { return C.sbx_config_set_timeout_ms(b, ms) })
	s.span("IdleTimeout", c.IdleTimeout, func(ms C.int64_t) C.int { return C.sbx_config_set_idle_timeout_ms(b, ms) })

	s.when(c.Memory != 0, func() C.int { return C.sbx_config_set_memory_bytes(b, C.uint64_t(c.Memory)) })
	if !(c.CPUs >= 0 && c.CPUs < 1<<20) && s.bad == nil {
		s.bad = failed("config", ErrInvalid, "CPUs: %v is out of range; 0 is the default", c.CPUs)
	}
	s.when(c.CPUs > 0, func() C.int { return C.sbx_config_set_millicpus(b, C.uint32_t(min(c.CPUs, 1<<20)*1000)) })
	s.count("MaxProcesses", c.MaxProcesses, func(n C.uint32_t) C.int { return C.sbx_config_set_max_processes(b, n) })
	s.count("MaxOpenFiles", c.MaxOpenFiles, func(n C.uint32_t) C.int { return C.sbx_config_set_max_open_files(b, n) })
	s.when(c.Disk != 0, func() C.int { return C.sbx_config_set_disk_bytes(b, C.uint64_t(c.Disk)) })
	s.when(c.Watchdog, func() C.int { return C.sbx_config_set_limit_mode(b, C.SBX_LIMITS_WATCHDOG) })

	s.ports(c.EncryptedPorts, func(p C.uint32_t) C.int { return C.sbx_config_add_port(b, p, C.SBX_PORT_ENCRYPTED) })
	s.ports(c.H2Ports, func(p C.uint32_t) C.int { return C.sbx_config_add_port(b, p, C.SBX_PORT_H2) })
	s.ports(c.UnencryptedPorts, func(p C.uint32_t) C.int { return C.sbx_config_add_port(b, p, C.SBX_PORT_UNENCRYPTED) })
	for port, at := range c.Bind {
		s.set(C.sbx_config_bind_port(b, C.uint32_t(port), s.text(at.Addr().String()), C.uint32_t(at.Port())))
	}
	for port, at := range c.HostServices {
		s.set(C.sbx_config_add_host_service(b, C.uint32_t(port), s.text(at.String())))
	}
	s.when(c.InboundCIDRAllowlist != nil, func() C.int {
		ranges := make([]string, len(c.InboundCIDRAllowlist))
		for i, cidr := range c.InboundCIDRAllowlist {
			ranges[i] = cidr.String()
		}
		return C.sbx_config_set_inbound_cidr_allowlist(b, s.list(ranges), C.size_t(len(ranges)))
	})
	for _, server := range c.Nameservers {
		text := server.String()
		if server.Port() == 0 {
			text = server.Addr().String()
		}
		s.set(C.sbx_config_add_nameserver(b, s.text(text)))
	}
	if c.TunnelRate > math.MaxInt32 && s.bad == nil {
		s.bad = failed("config", ErrInvalid, "TunnelRate: %d is out of range; a negative number is no limit", c.TunnelRate)
	}
	s.when(c.TunnelRate != 0, func() C.int {
		return C.sbx_config_set_tunnel_rate(b, C.int32_t(max(min(c.TunnelRate, math.MaxInt32), -1)))
	})
	s.when(c.EgressLimits != EgressLimits{}, func() C.int {
		l := c.EgressLimits
		return C.sbx_config_set_egress_limits(b, C.uint32_t(l.MaxFlows), C.uint32_t(l.NewFlowsPerSecond),
			C.uint64_t(l.BytesPerSecond), C.uint64_t(l.TotalBytes))
	})
	s.count("MTU", c.MTU, func(n C.uint32_t) C.int { return C.sbx_config_set_mtu(b, n) })
	for _, name := range c.TLSNames {
		s.set(C.sbx_config_add_tls_name(b, s.text(name)))
	}
	s.when(c.CertPEM != "" || c.KeyPEM != "", func() C.int {
		return C.sbx_config_set_tls_certificate(b, s.text(c.CertPEM), s.text(c.KeyPEM))
	})
	if c.Policy != nil {
		policy, err := c.Policy.build(&s.texts)
		defer C.sbx_policy_free(policy)
		if err != nil {
			return b, err
		}
		s.set(C.sbx_config_set_policy(b, policy))
	}

	streams{c.Stdin, c.Stdout, c.Stderr, c.Pipes}.each(func(stream, mode C.int32_t) { s.set(C.sbx_config_set_stream(b, stream, mode)) })
	interval := C.int64_t(100)
	s.span("Probe.Interval", c.Probe.Interval, func(ms C.int64_t) C.int { interval = ms; return 0 })
	s.when(c.Probe.Command != nil, func() C.int {
		return C.sbx_config_set_exec_probe(b, s.list(c.Probe.Command), C.size_t(len(c.Probe.Command)), interval)
	})
	s.when(c.Probe.Port != 0, func() C.int { return C.sbx_config_set_tcp_probe(b, C.uint32_t(c.Probe.Port), interval) })
	s.set(C.sbx_config_set_queue(b, events.handle, C.uint64_t(cookie)))
	return b, s.finish("config", func(e *C.sbx_error) C.int { return C.sbx_config_check(b, e) })
}

// milliseconds rounds up: a short time is not none.
func milliseconds(d time.Duration) C.int64_t {
	return C.int64_t((d + time.Millisecond - 1) / time.Millisecond)
}
