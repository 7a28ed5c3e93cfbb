package sbx

// #include <sbx.h>
import "C"

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// A Mode is what a policy starts from. It has no default, so that nothing empty can mean "everything".
type Mode int

// The modes.
const (
	Open      Mode = C.SBX_POLICY_OPEN      // any public address, save what is denied
	Allowlist Mode = C.SBX_POLICY_ALLOWLIST // only what is allowed; without entries, nothing
	Blocked   Mode = C.SBX_POLICY_BLOCKED   // no network at all, and no tunnels
)

// A Policy is what a sandbox may reach.
type Policy struct {
	Mode         Mode
	AllowCIDRs   []netip.Prefix // of an allowlist
	AllowDomains []string       // of an allowlist: "example.com", "*.example.com", by TLS
	TLSPorts     []uint16       // on which domains are reached, beside 443
	DenyCIDRs    []netip.Prefix // win over everything that allows
	LocalCIDRs   []netip.Prefix // of Open: neighbours on the host's own links at public addresses, denied otherwise
	DNS          DNS
}

// DNS is which names a sandbox's resolver answers.
type DNS int

// The ways.
const (
	DNSAuto      DNS = C.SBX_DNS_AUTO      // an open policy's: every name; an allowlist's: those of its domains
	DNSOn        DNS = C.SBX_DNS_ON        // every name
	DNSOff       DNS = C.SBX_DNS_OFF       // none
	DNSAddresses DNS = C.SBX_DNS_ADDRESSES // those of DNSAuto, and of each its addresses only
)

// build makes the library's policy, which the caller frees, whatever happens. What is wrong with an entry the library
// keeps, and says where it is used; that a text was cut short it can't know.
func (p *Policy) build(texts *texts) (*C.sbx_policy, error) {
	var policy *C.sbx_policy
	if p.Mode < Open || p.Mode > Blocked {
		return nil, failed("policy", ErrInvalid, "a policy's Mode must be Open, Allowlist or Blocked")
	}
	made := func(e *C.sbx_error) C.int { return C.sbx_policy_new(C.int32_t(p.Mode), &policy, e) }
	if err := calling(nil, "policy", made); err != nil {
		return nil, err
	}
	for _, cidr := range p.AllowCIDRs {
		C.sbx_policy_allow_cidr(policy, texts.text(cidr.String()))
	}
	for _, domain := range p.AllowDomains {
		C.sbx_policy_allow_domain(policy, texts.text(domain))
	}
	for _, port := range p.TLSPorts {
		C.sbx_policy_add_domain_port(policy, C.uint32_t(port))
	}
	C.sbx_policy_set_dns(policy, C.int32_t(p.DNS))
	for _, cidr := range p.LocalCIDRs {
		C.sbx_policy_allow_local_cidr(policy, texts.text(cidr.String()))
	}
	for _, cidr := range p.DenyCIDRs {
		C.sbx_policy_deny_cidr(policy, texts.text(cidr.String()))
	}
	return policy, texts.bad
}

// A PolicyReason is why something is denied or allowed.
type PolicyReason int

// The reasons. The C header says more of each.
const (
	ReasonOpen         PolicyReason = C.SBX_REASON_OPEN           // allowed: a public address, and the policy is open
	ReasonListed       PolicyReason = C.SBX_REASON_LISTED         // allowed by an entry
	ReasonDomain       PolicyReason = C.SBX_REASON_DOMAIN         // allowed: TLS to a domain that an entry names
	ReasonBlocked      PolicyReason = C.SBX_REASON_BLOCKED        // the policy is blocked
	ReasonDenied       PolicyReason = C.SBX_REASON_DENIED         // denied by an entry
	ReasonNotListed    PolicyReason = C.SBX_REASON_NOT_LISTED     // no entry of the allowlist matches
	ReasonProtected    PolicyReason = C.SBX_REASON_PROTECTED      // private, link-local or otherwise special
	ReasonMetadata     PolicyReason = C.SBX_REASON_METADATA       // a cloud's metadata service
	ReasonHost         PolicyReason = C.SBX_REASON_HOST           // an address of the host
	ReasonReserved     PolicyReason = C.SBX_REASON_RESERVED       // whatever the entries say: multicast, reserved ...
	ReasonProtocol     PolicyReason = C.SBX_REASON_PROTOCOL       // neither TCP nor UDP
	ReasonDNSName      PolicyReason = C.SBX_REASON_DNS_NAME       // a name that may not be asked for
	ReasonRebinding    PolicyReason = C.SBX_REASON_REBINDING      // a protected address in a name's answer
	ReasonNotTLS       PolicyReason = C.SBX_REASON_NOT_TLS        // reached only as a domain, and it is not TLS
	ReasonNoServerName PolicyReason = C.SBX_REASON_NO_SERVER_NAME // the handshake names no server
	ReasonServerName   PolicyReason = C.SBX_REASON_SERVER_NAME    // it names one that no entry is for
	ReasonNotResolved  PolicyReason = C.SBX_REASON_NOT_RESOLVED   // the resolver did not answer this address for it
	ReasonTLSTimeout   PolicyReason = C.SBX_REASON_TLS_TIMEOUT    // the handshake did not begin in time
	ReasonGateway      PolicyReason = C.SBX_REASON_GATEWAY        // the gateway doesn't let it through
	ReasonOnLink       PolicyReason = C.SBX_REASON_ON_LINK        // a neighbour on a link of the host's own
)

// String is the reason in words.
func (r PolicyReason) String() string {
	if r > 0 {
		return word(int(r), "open", "listed", "domain")
	}
	return word(int(-r), "blocked", "denied", "not listed", "protected", "metadata", "host", "reserved", "protocol", "DNS name",
		"rebinding", "not TLS", "no server name", "server name", "not resolved", "TLS timeout", "gateway", "on link")
}

// A Verdict is what a policy says of an address.
type Verdict struct {
	Allowed bool
	Reason  PolicyReason
	Entry   int    // the place among the policy's entries of the one that decided, or -1
	Detail  string // the same for people
}

// Check says what the policy says of an address, and why. It takes no sandbox and sends nothing. The protocol is an IP
// protocol's number: 6 is TCP, 17 UDP. What is reached as a domain's only is not allowed here: that depends on the names
// that the sandbox asks for.
func (p *Policy) Check(address netip.Addr, port uint16, protocol uint8) (Verdict, error) {
	var texts texts
	defer texts.free()
	policy, err := p.build(&texts)
	defer C.sbx_policy_free(policy)
	if err != nil {
		return Verdict{}, err
	}
	found := C.sbx_verdict{size: C.sizeof_sbx_verdict}
	err = calling(nil, "check policy", func(e *C.sbx_error) C.int {
		return C.sbx_policy_check(policy, texts.text(address.String()), C.uint32_t(port), C.uint32_t(protocol), &found, e)
	})
	if err != nil {
		return Verdict{}, err
	}
	return Verdict{found.allowed == 1, PolicyReason(found.reason), int(found.entry), C.GoString(&found.detail[0])}, nil
}

// ReadPolicy is the policy in force. The rules that hold it are read back from the kernel.
func (s *Sandbox) ReadPolicy(ctx context.Context) (*Policy, error) {
	policy := &Policy{}
	read, err := s.operation(ctx, "read policy", func(c common) C.int {
		return C.sbx_sandbox_policy_begin(s.handle, c.queue, c.cookie, c.op, c.failure)
	})
	if err != nil {
		return nil, err
	}
	err = read.do(ctx, func(op *operation) error {
		var copied *C.sbx_policy
		err := calling(op, "read policy", func(e *C.sbx_error) C.int {
			return C.sbx_operation_policy(op.handle, &copied, nil, e)
		})
		if err != nil {
			return err
		}
		defer C.sbx_policy_free(copied)
		return policy.read(copied)
	})
	if err != nil {
		return nil, err
	}
	return policy, nil
}

// read takes over what the library's policy says.
func (p *Policy) read(from *C.sbx_policy) error {
	said := C.sbx_policy_summary{size: C.sizeof_sbx_policy_summary}
	if err := result("read policy", C.sbx_policy_info(from, &said), nil); err != nil {
		return err
	}
	p.Mode, p.DNS = Mode(said.mode), DNS(said.dns)
	for i := range said.domain_port_count {
		p.TLSPorts = append(p.TLSPorts, uint16(C.sbx_policy_domain_port(from, C.size_t(i))))
	}
	for i := range said.entry_count {
		if err := p.add(C.GoString(C.sbx_policy_entry(from, C.size_t(i)))); err != nil {
			return err
		}
	}
	return nil
}

// add adds an entry as the library writes it.
func (p *Policy) add(entry string) error {
	kind, what, _ := strings.Cut(entry, " ")
	if kind == "domain" {
		p.AllowDomains = append(p.AllowDomains, what)
		return nil
	}
	cidr, err := netip.ParsePrefix(what)
	lists := map[string]*[]netip.Prefix{"allow": &p.AllowCIDRs, "deny": &p.DenyCIDRs, "local": &p.LocalCIDRs}
	if list := lists[kind]; list != nil && err == nil {
		*list = append(*list, cidr)
		return nil
	}
	return fmt.Errorf("sbx: read policy: unknown entry %q", entry)
}
