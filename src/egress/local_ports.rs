//! The host's local ports that TCP flows take, one each towards a destination.
//!
//! A port is taken for as long as the flow is open and, if the sandbox closed it first, for a minute more: in TIME_WAIT
//! (tcp(7)) the port can't be used for that destination. One destination has as many as the kernel hands out, for all
//! programs of the machine; towards another destination the same ports are free. Pure.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long the kernel keeps a port in TIME_WAIT (TCP_TIMEWAIT_LEN).
const TIME_WAIT: Duration = Duration::from_secs(60);

/// How many local ports the kernel hands out.
pub(super) fn of_host() -> usize {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = range.split_whitespace().map_while(|end| end.parse::<usize>().ok());
    // The kernel's own range (ip-sysctl), where it doesn't say.
    let (first, last) = ends.next().zip(ends.next()).unwrap_or((32_768, 60_999));
    last.saturating_sub(first) + 1
}

/// How many local ports each sandbox has in use towards each destination.
#[derive(Debug)]
pub(super) struct LocalPorts {
    /// The most towards one destination, for all sandboxes.
    limit: usize,
    to: HashMap<SocketAddr, HashMap<u64, usize>>,
    /// Ports in TIME_WAIT, in the order in which that ends.
    leaving: VecDeque<(Instant, SocketAddr, u64)>,
}

impl LocalPorts {
    /// Shares out three quarters of so many ports: the host's own programs need some.
    pub(super) fn new(ports: usize) -> Self {
        Self { limit: ports - ports / 4, to: HashMap::new(), leaving: VecDeque::new() }
    }

    /// Takes a port towards a destination if the sandbox may have another. Its share is that of one of `sandboxes` and one
    /// to come.
    pub(super) fn take(&mut self, now: Instant, to: SocketAddr, sandbox: u64, sandboxes: usize) -> bool {
        while let Some((at, to, sandbox)) = self.leaving.front().copied()
            && at <= now
        {
            self.leaving.pop_front();
            self.give_back(to, sandbox);
        }
        let mine = self.to.get(&to).and_then(|all| all.get(&sandbox)).copied().unwrap_or(0);
        let all: usize = self.to.get(&to).map_or(0, |all| all.values().sum());
        let may = mine < self.limit / (sandboxes + 1) && all < self.limit;
        if may {
            *self.to.entry(to).or_default().entry(sandbox).or_default() += 1;
        }
        may
    }

    /// Frees a port.
    pub(super) fn give_back(&mut self, to: SocketAddr, sandbox: u64) {
        let Some(all) = self.to.get_mut(&to) else { return };
        if let Some(mine) = all.get_mut(&sandbox) {
            *mine = mine.saturating_sub(1);
            if *mine == 0 {
                all.remove(&sandbox);
            }
        }
        if all.is_empty() {
            self.to.remove(&to);
        }
    }

    /// Frees the port of a flow that has ended once its TIME_WAIT is over.
    pub(super) fn linger(&mut self, now: Instant, to: SocketAddr, sandbox: u64) {
        self.leaving.push_back((now + TIME_WAIT, to, sandbox));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, 1], port))
    }

    #[test]
    fn those_in_time_wait_count_for_a_minute_and_to_their_destination_alone() {
        let (mut ports, start) = (LocalPorts::new(40), Instant::now());
        let mut begun = 0;
        while ports.take(start, address(443), 1, 1) {
            ports.linger(start, address(443), 1);
            begun += 1;
        }
        assert_eq!(begun, 15, "half of three quarters");
        assert!(ports.take(start, address(80), 1, 1), "another destination");
        assert!(ports.take(start, address(443), 2, 2), "another sandbox");
        assert!(!ports.take(start + TIME_WAIT / 2, address(443), 1, 1));
        assert!(ports.take(start + TIME_WAIT, address(443), 1, 1));
        for (port, sandbox) in [(80, 1), (443, 2), (443, 1)] {
            ports.give_back(address(port), sandbox);
        }
        assert!(ports.to.is_empty() && ports.leaving.is_empty());
    }

    #[test]
    fn many_sandboxes_together_leave_a_quarter() {
        let (mut ports, now) = (LocalPorts::new(40), Instant::now());
        let mut taken = 0;
        for sandbox in 0..10 {
            // As they come, each takes what it may.
            let count = usize::try_from(sandbox).unwrap() + 1;
            while ports.take(now, address(443), sandbox, count) {
                taken += 1;
            }
        }
        assert_eq!(taken, 30);
    }
}
