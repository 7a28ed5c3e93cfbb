package sbx

/*
#include <sbx.h>
*/
import "C"

import (
	"net/netip"
)

// A Mode is what a policy starts from. It has no default, so that nothing empty can mean "everything".
type Mode int

// The modes.
const (
	Open      Mode = iota + 1 // any public address, save what is denied
	Allowlist                 // only what is allowed; without entries, nothing
	Blocked                   // no network at all, and no tunnels
)

// A Policy is what a sandbox may reach.
type Policy struct {
	Mode       Mode
	AllowCIDRs []netip.Prefix // of an allowlist
	DenyCIDRs  []netip.Prefix // win over everything that allows
}

// A Verdict is what a policy says of an address.
type Verdict struct {
	Allowed bool
	Reason  int    // one of the C header's SBX_REASON_...
	Rule    int    // the entry that decided, from 0, allowed ranges first; -1 if none did
	Detail  string // the same for people
}

// Check says what the policy says of an address, and why, without any sandbox and without sending anything.
// The protocol is an IP protocol's number: 6 is TCP, 17 UDP.
func (p *Policy) Check(address netip.AddrPort, protocol int) (Verdict, error) {
	var texts texts
	defer texts.free()
	policy, err := p.c(&texts)
	if err != nil {
		return Verdict{}, err
	}
	defer C.sbx_policy_free(policy)
	verdict := C.sbx_verdict{size: C.sizeof_sbx_verdict}
	failure := newFailure()
	code := C.sbx_policy_check(policy, texts.text(address.Addr().String()), C.uint32_t(address.Port()),
		C.uint32_t(protocol), &verdict, failure)
	if err := result("check policy", code, failure); err != nil {
		return Verdict{}, err
	}
	return Verdict{verdict.allowed == 1, int(verdict.reason), int(verdict.rule), C.GoString(&verdict.detail[0])}, nil
}

// c makes the library's policy. What is wrong with an entry the library keeps, and says where it is used.
func (p *Policy) c(texts *texts) (*C.sbx_policy, error) {
	var policy *C.sbx_policy
	switch p.Mode {
	case Open:
		policy = C.sbx_policy_new_open()
	case Allowlist:
		policy = C.sbx_policy_new_allowlist()
	case Blocked:
		policy = C.sbx_policy_new_blocked()
	default:
		return nil, &Error{Op: "policy", Code: ErrInvalid, Message: "a policy's Mode must be Open, Allowlist or Blocked"}
	}
	if policy == nil {
		return nil, &Error{Op: "policy", Code: ErrLimit, Message: "no handle is left"}
	}
	for _, cidr := range p.AllowCIDRs {
		C.sbx_policy_allow_cidr(policy, texts.text(cidr.String()))
	}
	for _, cidr := range p.DenyCIDRs {
		C.sbx_policy_deny_cidr(policy, texts.text(cidr.String()))
	}
	return policy, nil
}
