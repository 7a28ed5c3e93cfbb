package sbx

/*
#include <sbx.h>
*/
import "C"

import (
	"io"
	"net/netip"
	"time"
)

// A Config is what a sandbox is asked to be. The zero value of everything but Command is a good default. It is
// only read, so one makes any number of sandboxes, also at the same time.
type Config struct {
	Command  []string          // the program and its arguments
	Env      map[string]string // never logged, never written to a file
	Dir      string            // where it starts (default "/")
	User     string            // "name", "uid", "uid:gid" or "name:group" of the sandbox (default its root)
	Hostname string
	Name     string        // no two live sandboxes of a runtime have the same
	Rootfs   string        // a directory of the host (default: a curated view of the host's programs)
	Mounts   []Mount       // files and directories of the host
	Timeout  time.Duration // how long it may live (default 300 s)

	EncryptedPorts   []uint16                  // tunnels on which the library ends TLS
	H2Ports          []uint16                  // the same, also offering HTTP/2
	UnencryptedPorts []uint16                  // tunnels of raw TCP
	Bind             map[uint16]netip.AddrPort // where tunnels listen (default 127.0.0.1, a port of the kernel's)
	// InboundCIDRAllowlist is who may connect to the tunnels. nil is everybody, an empty list nobody.
	InboundCIDRAllowlist []netip.Prefix
	TLSNames             []string // further names and addresses for the library's certificate
	CertPEM, KeyPEM      string   // a certificate of the host's own instead
	Policy               *Policy  // what it may reach
	MTU                  int      // from 1280 to 9000 (default 1500)

	// Stdin is copied to the program until it ends; Stdout and Stderr get what the program writes, and
	// [Sandbox.Wait] waits until they have it. nil is /dev/null. If Stdout and Stderr are the same they get both.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Pipes are the streams that the host reads or writes itself: [Sandbox].Stdin, Stdout and Stderr.
	Pipes Stream

	Probe Probe // how to see that the server inside is ready (default: a connection to the first port)

	// Events gets what happens to the sandbox. The package doesn't wait for room in it: make it large enough.
	Events chan<- Event
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

// A Stream is one of the program's standard streams; add them up where several are meant.
type Stream int

// The streams.
const (
	PipeStdin Stream = 1 << iota
	PipeStdout
	PipeStderr
)

// building is a library's config in the making. Its setters are sticky: the first bad value is kept, and said
// by finish.
type building struct {
	texts
	config *C.sbx_config
	code   C.int
}

func (b *building) set(code C.int) {
	if b.code == 0 {
		b.code = code
	}
}

// c makes the library's config, with events under this cookie. The caller frees it.
func (c *Config) c(cookie uint64) (*C.sbx_config, error) {
	b := building{config: C.sbx_config_new()}
	defer b.free()
	if b.config == nil {
		return nil, &Error{Op: "config", Code: ErrLimit, Message: "no handle is left"}
	}
	if c.Command != nil {
		b.set(C.sbx_config_set_command(b.config, b.list(c.Command), C.size_t(len(c.Command))))
	}
	for name, value := range c.Env {
		b.set(C.sbx_config_set_env(b.config, b.text(name), b.text(value)))
	}
	for _, one := range []struct {
		value string
		set   func(*C.char) C.int
	}{
		{c.Dir, func(v *C.char) C.int { return C.sbx_config_set_workdir(b.config, v) }},
		{c.User, func(v *C.char) C.int { return C.sbx_config_set_user(b.config, v) }},
		{c.Hostname, func(v *C.char) C.int { return C.sbx_config_set_hostname(b.config, v) }},
		{c.Name, func(v *C.char) C.int { return C.sbx_config_set_name(b.config, v) }},
		{c.Rootfs, func(v *C.char) C.int { return C.sbx_config_set_rootfs(b.config, v) }},
	} {
		if one.value != "" {
			b.set(one.set(b.text(one.value)))
		}
	}
	for _, mount := range c.Mounts {
		if mount.Writable {
			b.set(C.sbx_config_mount_writable(b.config, b.text(mount.Source), b.text(mount.Target)))
		} else {
			b.set(C.sbx_config_mount_read_only(b.config, b.text(mount.Source), b.text(mount.Target)))
		}
	}
	if c.Timeout != 0 {
		b.set(C.sbx_config_set_timeout_ms(b.config, milliseconds(c.Timeout)))
	}
	b.set(C.sbx_config_set_queue(b.config, events.handle, C.uint64_t(cookie)))
	b.streams(c)
	b.probe(&c.Probe)
	if err := b.network(c); err != nil {
		C.sbx_config_free(b.config)
		return nil, err
	}
	return b.finish()
}

func (b *building) streams(c *Config) {
	for _, one := range []struct {
		piped  bool
		stream C.int32_t
	}{
		{c.Stdin != nil || c.Pipes&PipeStdin != 0, C.SBX_STDIN},
		{c.Stdout != nil || c.Pipes&PipeStdout != 0, C.SBX_STDOUT},
		{!c.merged() && (c.Stderr != nil || c.Pipes&PipeStderr != 0), C.SBX_STDERR},
	} {
		if one.piped {
			b.set(C.sbx_config_set_stream(b.config, one.stream, C.SBX_STREAM_DESCRIPTOR))
		}
	}
	if c.merged() {
		b.set(C.sbx_config_set_stream(b.config, C.SBX_STDERR, C.SBX_STREAM_MERGED))
	}
}

// merged is whether one writer gets both outputs. Writers that can't be compared are different ones.
func (c *Config) merged() (same bool) {
	defer func() { _ = recover() }()
	return c.Stdout != nil && c.Stdout == c.Stderr
}

func (b *building) probe(p *Probe) {
	interval := p.Interval
	if interval == 0 {
		interval = 100 * time.Millisecond
	}
	if p.Command != nil {
		b.set(C.sbx_config_set_exec_probe(b.config, b.list(p.Command), C.size_t(len(p.Command)), milliseconds(interval)))
	}
	if p.Port != 0 {
		b.set(C.sbx_config_set_tcp_probe(b.config, C.uint32_t(p.Port), milliseconds(interval)))
	}
}

func (b *building) network(c *Config) error {
	for _, port := range c.EncryptedPorts {
		b.set(C.sbx_config_add_encrypted_port(b.config, C.uint32_t(port)))
	}
	for _, port := range c.H2Ports {
		b.set(C.sbx_config_add_h2_port(b.config, C.uint32_t(port)))
	}
	for _, port := range c.UnencryptedPorts {
		b.set(C.sbx_config_add_unencrypted_port(b.config, C.uint32_t(port)))
	}
	for port, at := range c.Bind {
		b.set(C.sbx_config_bind_port(b.config, C.uint32_t(port), b.text(at.Addr().String()), C.uint32_t(at.Port())))
	}
	if c.InboundCIDRAllowlist != nil {
		ranges := make([]string, len(c.InboundCIDRAllowlist))
		for i, cidr := range c.InboundCIDRAllowlist {
			ranges[i] = cidr.String()
		}
		b.set(C.sbx_config_set_inbound_cidr_allowlist(b.config, b.list(ranges), C.size_t(len(ranges))))
	}
	for _, name := range c.TLSNames {
		b.set(C.sbx_config_add_tls_name(b.config, b.text(name)))
	}
	if c.CertPEM != "" || c.KeyPEM != "" {
		b.set(C.sbx_config_set_tls_certificate(b.config, b.text(c.CertPEM), b.text(c.KeyPEM)))
	}
	if c.MTU != 0 {
		b.set(C.sbx_config_set_mtu(b.config, C.uint32_t(c.MTU)))
	}
	if c.Policy != nil {
		policy, err := c.Policy.c(&b.texts)
		if err != nil {
			return err
		}
		defer C.sbx_policy_free(policy)
		b.set(C.sbx_config_set_policy(b.config, policy))
	}
	return nil
}

func (b *building) finish() (*C.sbx_config, error) {
	err := b.bad
	if err == nil {
		failure := newFailure()
		err = result("config", C.sbx_config_check(b.config, failure), failure)
	}
	if err == nil {
		err = result("config", b.code, nil)
	}
	if err != nil {
		C.sbx_config_free(b.config)
		return nil, err
	}
	return b.config, nil
}

// milliseconds rounds up: a short time is not none.
func milliseconds(d time.Duration) C.int64_t {
	return C.int64_t((d + time.Millisecond - 1) / time.Millisecond)
}
