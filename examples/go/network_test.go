package sbx

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// said is what a program in Python prints in a sandbox of that config.
func said(t *testing.T, program string, config *Config) string {
	t.Helper()
	var out bytes.Buffer
	config.Command, config.Stdout, config.Stderr = []string{"python3", "-c", program}, &out, &out
	ended(t, create(t, config))
	return out.String()
}

// nameServer has one address for every name.
func nameServer(t *testing.T) netip.AddrPort {
	t.Helper()
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { server.Close() })
	go func() {
		question := make([]byte, 512)
		for {
			n, peer, err := server.ReadFrom(question)
			if err != nil {
				return
			}
			end := 12 + bytes.IndexByte(question[12:n], 0) + 5
			answer := append([]byte{question[0], question[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question[12:end]...)
			if binary.BigEndian.Uint16(question[end-4:]) == 1 {
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 93, 184, 216, 34)
			}
			_, _ = server.WriteTo(answer, peer)
		}
	}()
	return server.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestASandboxIsGivenItsNetwork(t *testing.T) {
	program := `
import fcntl, socket, struct
found = fcntl.ioctl(socket.socket(), 0x8921, struct.pack("16sI12x", b"eth0", 0))
print(socket.gethostname(), struct.unpack("16sI12x", found)[1], socket.gethostbyname("some.example.com"))`
	config := &Config{Hostname: "crate-7", MTU: 1400, Nameservers: []netip.AddrPort{nameServer(t)}}
	if out := said(t, program, config); out != "crate-7 1400 93.184.216.34\n" {
		t.Errorf("%q", out)
	}
	sandbox := create(t, &Config{Tags: map[string]string{"owner": "tests"}, Policy: &Policy{Mode: Blocked}})
	if sandbox.Tag("owner") != "tests" || sandbox.Tag("other") != "" {
		t.Errorf("%q", sandbox.Tag("owner"))
	}
	for text, config := range map[string]*Config{
		"mtu 100":       {MTU: 100},
		"1000001":       {TunnelRate: 1_000_001},
		"1099511627776": {TunnelRate: 1 << 40},
		"tag value":     {Tags: map[string]string{"owner": strings.Repeat("x", 257)}},
		"-1":            {MTU: -1},
	} {
		_, err := Create(patience(t), config)
		wants(t, err, ErrInvalid, text)
	}
	_, err := Create(patience(t), &Config{Nameservers: []netip.AddrPort{{}}})
	wants(t, err, ErrInvalid, "server")
}

func TestOneFlowMoreThanTheBudgetIsReset(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer server.Close()
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "hello")
		}
	}()
	out := said(t, `
import socket
first = socket.create_connection(("192.0.0.1", 8080), 30)
print(first.recv(5).decode())
try:
    print(socket.create_connection(("192.0.0.1", 8080), 30).recv(5))
except OSError as error:
    print("no more")`, &Config{
		HostServices: map[uint16]netip.AddrPort{8080: server.Addr().(*net.TCPAddr).AddrPort()},
		EgressLimits: EgressLimits{MaxFlows: 1},
	})
	if out != "hello\nno more\n" {
		t.Errorf("%q", out)
	}
}

func TestATunnelListensWhereItIsToldWithACertificateOfOnesOwn(t *testing.T) {
	path := os.Getenv("SBX_TEST_CERTIFICATE")
	if path == "" {
		t.Skip("SBX_TEST_CERTIFICATE names no file")
	}
	pem, err := os.ReadFile(path)
	must(t, err)
	chain, key, _ := strings.Cut(string(pem), "-----BEGIN PRIVATE KEY")
	sandbox := create(t, &Config{
		Command:        []string{"python3", "-m", "http.server", "8000"},
		EncryptedPorts: []uint16{8000},
		Bind:           map[uint16]netip.AddrPort{8000: netip.MustParseAddrPort("127.0.0.2:0")},
		CertPEM:        chain, KeyPEM: "-----BEGIN PRIVATE KEY" + key,
	})
	must(t, sandbox.WaitReady(patience(t)))
	tunnel, err := sandbox.Tunnel(8000)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(chain))
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "sandbox.test"}}}
	defer client.CloseIdleConnections()
	response, err := client.Get(tunnel.URL)
	must(t, err)
	response.Body.Close()
	if tunnel.Host != "127.0.0.2" || response.StatusCode != 200 {
		t.Errorf("%+v %v", tunnel, response.Status)
	}
	// A client that comes again resumes its session.
	config := &tls.Config{RootCAs: roots, ServerName: "sandbox.test"}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config.MinVersion, config.MaxVersion = version, version
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		for _, resumed := range []bool{false, true} {
			connection, err := tls.Dial("tcp", net.JoinHostPort(tunnel.Host, strconv.Itoa(int(tunnel.Port))), config)
			must(t, err)
			_, err = connection.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
			must(t, err)
			_, err = io.ReadAll(connection)
			must(t, err)
			if connection.ConnectionState().DidResume != resumed {
				t.Errorf("version %x: resumed is not %v", version, resumed)
			}
			connection.Close()
		}
	}
}

func TestWhatAPolicySaysOfAnAddress(t *testing.T) {
	ranges := []netip.Prefix{netip.MustParsePrefix("93.184.216.0/24")}
	for _, check := range []struct {
		policy   Policy
		address  string
		protocol uint8
		wanted   Verdict
		reason   string
	}{
		{Policy{Mode: Open}, "93.184.216.34", 6, Verdict{true, ReasonOpen, -1, ""}, "open"},
		{Policy{Mode: Open}, "10.0.0.1", 6, Verdict{false, ReasonProtected, -1, ""}, "protected"},
		{Policy{Mode: Open}, "93.184.216.34", 1, Verdict{false, ReasonProtocol, -1, ""}, "protocol"},
		{Policy{Mode: Blocked}, "93.184.216.34", 17, Verdict{false, ReasonBlocked, -1, ""}, "blocked"},
		{Policy{Mode: Open, DenyCIDRs: ranges}, "93.184.216.34", 6, Verdict{false, ReasonDenied, 0, ""}, "denied"},
		{Policy{Mode: Allowlist, AllowCIDRs: ranges}, "93.184.216.34", 6, Verdict{true, ReasonListed, 0, ""}, "listed"},
		{Policy{Mode: Allowlist, AllowCIDRs: ranges}, "8.8.8.8", 6, Verdict{false, ReasonNotListed, -1, ""}, "not listed"},
	} {
		verdict, err := check.policy.Check(netip.MustParseAddr(check.address), 443, check.protocol)
		must(t, err)
		if verdict.Detail == "" || verdict.Reason.String() != check.reason {
			t.Errorf("%+v", verdict)
		}
		verdict.Detail = ""
		if verdict != check.wanted {
			t.Errorf("%+v, not %+v", verdict, check.wanted)
		}
	}
	open := Policy{Mode: Open}
	_, err := open.Check(netip.MustParseAddr("8.8.8.8"), 0, 6)
	wants(t, err, ErrInvalid, "port")
	_, err = open.Check(netip.Addr{}, 443, 6)
	wants(t, err, ErrInvalid, "")
	_, err = (&Policy{}).Check(netip.MustParseAddr("8.8.8.8"), 443, 6)
	wants(t, err, ErrInvalid, "Mode")
	if ReasonOnLink.String() != "on link" || PolicyReason(-99).String() != "unknown" || PolicyReason(0).String() != "unknown" {
		t.Error(ReasonOnLink)
	}
}

func TestAPolicyIsReadBack(t *testing.T) {
	policy := &Policy{
		Mode: Allowlist, AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
		AllowDomains: []string{"*.example.com"}, DenyCIDRs: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}, DNS: DNSAddresses,
		TLSPorts: []uint16{8443, 9443},
	}
	sandbox := create(t, &Config{Policy: policy})
	read, err := sandbox.ReadPolicy(patience(t))
	must(t, err)
	if !reflect.DeepEqual(read, policy) {
		t.Errorf("%+v", read)
	}
	policy = &Policy{Mode: Open, LocalCIDRs: policy.AllowCIDRs}
	must(t, sandbox.SetPolicy(patience(t), policy))
	read, err = sandbox.ReadPolicy(patience(t))
	must(t, err)
	if !reflect.DeepEqual(read, policy) {
		t.Errorf("%+v", read)
	}
	must(t, sandbox.Close())
	_, err = sandbox.ReadPolicy(patience(t))
	wants(t, err, ErrHandle, "")
}

func TestTheDoctor(t *testing.T) {
	report, err := Doctor(patience(t))
	must(t, err)
	if !report.Usable || len(report.Findings) == 0 || !strings.Contains(report.String(), "runsc") {
		t.Errorf("%v", report)
	}
	for _, finding := range report.Findings {
		if finding.Status == StatusMissing || finding.Name == "" || finding.Detail == "" {
			t.Errorf("%+v", finding)
		}
	}
	var read struct {
		Usable   bool
		Findings []struct{ Name, Status, Detail, Remedy string }
	}
	must(t, json.Unmarshal([]byte(report.JSON), &read))
	if !read.Usable || len(read.Findings) != len(report.Findings) || read.Findings[0].Status != report.Findings[0].Status.String() {
		t.Errorf("%s", report.JSON)
	}
	done := make(chan Report, 8)
	for range 3 {
		go func() {
			report, _ := Doctor(patience(t))
			done <- report
		}()
	}
	for range 3 {
		select {
		case report := <-done:
			if !report.Usable {
				t.Error("not usable")
			}
		case <-time.After(time.Minute):
			t.Fatal("it never came")
		}
	}
	if words := StatusLimited.String() + StatusMissing.String() + Status(9).String(); words != "limitedmissingunknown" {
		t.Error(words)
	}
}
