//! The files of /etc that are made up for each sandbox.

use super::Plan;

/// What the made-up files say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a> {
    pub(crate) hostname: &'a str,
    /// Whether the sandbox is networked: then the gateway answers its DNS questions.
    pub(crate) network: bool,
}

/// The sandbox's own address, and the gateway's, where the DNS relay listens.
const ADDRESS: &str = "192.0.0.2";
const RESOLVER: &str = "192.0.0.1";

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

/// Files only: the default of many systems asks daemons of the host, which aren't there.
const NSSWITCH: &str = "\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
";

/// Made for every sandbox, whatever its root file system.
pub(super) const IDENTITY: &[&str] = &["hostname", "hosts", "resolv.conf"];

impl Names<'_> {
    /// Name, addresses and resolver: the sandbox's own, so that a file system that is somebody else's can't
    /// have brought the right ones.
    pub(super) fn identity(&self, plan: &mut Plan) {
        let hostname = self.hostname;
        let own = if self.network {
            format!("{ADDRESS}\t{hostname}\n")
        } else {
            format!("127.0.1.1\t{hostname}\n")
        };
        plan.file("/etc/hostname", format!("{hostname}\n"));
        plan.file(
            "/etc/hosts",
            format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{own}"),
        );
        let resolver = if self.network { format!("nameserver {RESOLVER}\n") } else { String::new() };
        plan.file("/etc/resolv.conf", resolver);
    }
}

/// Who there is, and where names are looked up, for a file system that has no /etc of its own.
pub(super) fn accounts(plan: &mut Plan) {
    plan.file("/etc/passwd", PASSWD);
    plan.file("/etc/group", GROUP);
    plan.file("/etc/nsswitch.conf", NSSWITCH);
}
