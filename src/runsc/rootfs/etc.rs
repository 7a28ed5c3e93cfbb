//! The files of /etc that are generated for each sandbox.

use std::path::Path;

use super::Plan;
use crate::topology::{GATEWAY, SANDBOX};

/// The contents of the generated files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a> {
    pub(crate) hostname: &'a str,
    /// Whether the sandbox has a network: then the gateway answers its DNS queries.
    pub(crate) network: bool,
}

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
";

const GROUP: &str = "\
root:x:0:
daemon:x:1:
bin:x:2:
tty:x:5:
nogroup:x:65534:
";

/// Files and DNS only: the defaults of many systems use daemons of the host, which the sandbox doesn't have.
const NSSWITCH: &str = "\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
";

/// For hosts without these files: names that programs look up (RFC 6335, RFC 5237).
const SERVICES: &str = "\
ftp\t21/tcp
ssh\t22/tcp
telnet\t23/tcp
smtp\t25/tcp\tmail
domain\t53/tcp
domain\t53/udp
http\t80/tcp\twww
http\t80/udp
pop3\t110/tcp
ntp\t123/udp
imap2\t143/tcp\timap
ldap\t389/tcp
https\t443/tcp
https\t443/udp
submission\t587/tcp
ldaps\t636/tcp
imaps\t993/tcp
pop3s\t995/tcp
mysql\t3306/tcp
postgresql\t5432/tcp
redis\t6379/tcp
";

const PROTOCOLS: &str = "\
ip\t0\tIP
icmp\t1\tICMP
tcp\t6\tTCP
udp\t17\tUDP
ipv6\t41\tIPv6
ipv6-icmp\t58\tIPv6-ICMP
";

/// For programs that use PAM (chfn, su): root inside may, other users gain nothing.
const PAM: &str = "\
auth\tsufficient\tpam_rootok.so
auth\trequired\tpam_deny.so
account\trequired\tpam_permit.so
password\trequired\tpam_unix.so
session\trequired\tpam_permit.so
";

/// Generated for every sandbox, whatever its root file system. On an image init writes them.
pub(super) const IDENTITY: &[&str] = &["hostname", "hosts", "resolv.conf"];

impl Names<'_> {
    /// Name, addresses and resolver: they differ from sandbox to sandbox, so a given root file system can't have the right
    /// ones.
    pub(super) fn identity(&self, plan: &mut Plan) {
        for (path, content) in self.files() {
            plan.file(path, content);
        }
    }

    /// The paths and contents of these files.
    pub(crate) fn files(&self) -> [(&'static str, String); 3] {
        let hostname = self.hostname;
        let own = if self.network {
            format!("{SANDBOX}\t{hostname}\n")
        } else {
            format!("127.0.1.1\t{hostname}\n")
        };
        let hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{own}");
        let resolver = if self.network { format!("nameserver {GATEWAY}\n") } else { String::new() };
        [("/etc/hostname", format!("{hostname}\n")), ("/etc/hosts", hosts), ("/etc/resolv.conf", resolver)]
    }
}

/// Users, groups and name services, for a file system without an /etc of its own.
pub(super) fn accounts(plan: &mut Plan) {
    plan.file("/etc/passwd", PASSWD);
    plan.file("/etc/group", GROUP);
    plan.file("/etc/nsswitch.conf", NSSWITCH);
}

/// Names of ports and protocols, and files of new users, where the host has none.
pub(super) fn fill(plan: &mut Plan) {
    for (path, content) in [("/etc/services", SERVICES), ("/etc/protocols", PROTOCOLS)] {
        if !plan.has(Path::new(path)) {
            plan.file(path, content);
        }
    }
    if !plan.has(Path::new("/etc/skel")) {
        plan.dir("/etc/skel", 0o755);
    }
    plan.dir("/etc/pam.d", 0o755);
    plan.file("/etc/pam.d/other", PAM);
}
