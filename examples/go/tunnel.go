package sbx

// #include <sbx.h>
import "C"

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"strconv"
	"time"
)

// A Tunnel is where a port of a sandbox is reached. It is plain data and outlives its sandbox.
type Tunnel struct {
	ContainerPort uint16
	Host          string
	Port          uint16
	URL           string // of an encrypted tunnel, else ""
	CAPEM         string // the authority that its certificate was made under; "" if plain or the host's own
	SPKISHA256    string // the pin of its certificate's key, in base64
}

// Addr is the address to dial.
func (t Tunnel) Addr() string { return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))) }

// TLSConfig trusts the sandbox's own authority and no other, or the system's where the certificate is the host's.
func (t Tunnel) TLSConfig() *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CAPEM != "" {
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM([]byte(t.CAPEM))
	}
	return config
}

// Client is an HTTP client with that TLSConfig. It follows the server's redirects only within the tunnel, since
// what answers is untrusted. Keep it for further requests: each has connections of its own, which are closed when
// they have been idle for 30 s.
func (t Tunnel) Client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: t.TLSConfig(), ForceAttemptHTTP2: true, IdleConnTimeout: 30 * time.Second},
		CheckRedirect: func(request *http.Request, via []*http.Request) error {
			if request.URL.Host != t.Addr() || len(via) > 9 {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}

// Tunnels are the sandbox's tunnels by container port. That a tunnel exists doesn't mean that the server inside
// answers already: see [Sandbox.WaitReady].
func (s *Sandbox) Tunnels() (map[uint16]Tunnel, error) {
	var all *C.sbx_tunnel_map
	// The listeners exist since the sandbox was created, so this only looks.
	look := func(e *C.sbx_error) C.int { return C.sbx_tunnels(s.handle, 0, &all, e) }
	if err := calling(s, "tunnels", look); err != nil {
		return nil, err
	}
	defer C.sbx_tunnel_map_free(all)
	tunnels := map[uint16]Tunnel{}
	for i := range C.sbx_tunnel_map_count(all) {
		t := C.sbx_tunnel{size: C.sizeof_sbx_tunnel}
		if err := result("tunnels", C.sbx_tunnel_map_tunnel(all, C.size_t(i), &t), nil); err != nil {
			return nil, err
		}
		tunnels[uint16(t.container_port)] = Tunnel{
			ContainerPort: uint16(t.container_port),
			Host:          C.GoString(t.host),
			Port:          uint16(t.port),
			URL:           C.GoString(t.url),
			CAPEM:         C.GoString(t.ca_pem),
			SPKISHA256:    C.GoString(t.spki_sha256),
		}
	}
	return tunnels, nil
}

// Tunnel is the tunnel of one container port.
func (s *Sandbox) Tunnel(port uint16) (Tunnel, error) {
	tunnels, err := s.Tunnels()
	if err != nil {
		return Tunnel{}, err
	}
	tunnel, listed := tunnels[port]
	if !listed {
		return Tunnel{}, failed("tunnel", ErrNotFound, "port %d isn't listed in the config", port)
	}
	return tunnel, nil
}
