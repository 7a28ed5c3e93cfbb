//! The rules between several settings, which are checked when all are made.

use super::{Config, Probe, Stdio, program};
use crate::error::{Error, Result};
use crate::policy::PolicyMode;

impl Config {
    /// Returns the first refused value, or the first broken rule between settings.
    pub fn check(&self) -> Result<()> {
        self.resolved()?.check_rules()
    }

    pub(super) fn check_rules(&self) -> Result<()> {
        program::fits_with("command", &self.command, self.env.bytes())?;
        if let Some(Probe::Exec { command, .. }) = &self.probe {
            program::fits_with("readiness probe: command", command, self.env.bytes())?;
        }
        let streams = [self.stdin, self.stdout, self.stderr];
        if self.command.is_empty() && streams.iter().any(|stream| *stream != Stdio::Null) {
            return Err(Error::invalid(
                "command: must be set for streams, which belong to its program; programs that are executed later have \
                 streams of their own",
            ));
        }
        if self.policy.mode() == PolicyMode::Blocked {
            if let Some(port) = self.ports.first() {
                return Err(Error::invalid(format!(
                    "port {}: a blocked policy allows no ports",
                    port.container_port()
                )));
            }
            if let Some(service) = self.host_services.first() {
                return Err(Error::invalid(format!(
                    "host service {}: a blocked policy allows none, for there is no network",
                    service.port
                )));
            }
            if self.inbound.is_some() {
                return Err(Error::invalid(
                    "inbound_cidr_allowlist: a blocked policy allows none, not even an empty one",
                ));
            }
        }
        if self.image.is_some() && self.rootfs.is_some() {
            return Err(Error::invalid(
                "image: must not be set together with a rootfs directory; set one, not both",
            ));
        }
        if self.exit_snapshot.is_some() && self.image.is_none() {
            return Err(Error::invalid(
                "exit snapshot: needs a sandbox on an image; import its root directory as an image, and start from that",
            ));
        }
        if self.certificate.is_some() && !self.tls_names.is_empty() {
            return Err(Error::invalid(
                "tls name: must not be set together with the host's own certificate; set names or a certificate, not both",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PortKind, Stream};
    use crate::error::Code;
    use crate::policy::Policy;

    fn config() -> Config {
        let mut config = Config::new();
        config.set_command(["true"]).unwrap();
        config
    }

    #[test]
    fn streams_need_a_command() {
        Config::new().check().unwrap();
        let mut streams = Config::new();
        streams.set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
        assert!(streams.check().unwrap_err().message().contains("command"));
        streams.set_command(["true"]).unwrap();
        streams.check().unwrap();
    }

    #[test]
    fn a_blocked_policy_takes_no_ports_and_no_inbound_list() {
        let mut blocked = config();
        blocked.set_policy(&Policy::blocked()).unwrap();
        blocked.check().unwrap();
        for kind in [PortKind::Encrypted, PortKind::H2, PortKind::Unencrypted] {
            let mut ports = blocked.clone();
            ports.add_port(80, kind).unwrap();
            let error = ports.check().unwrap_err();
            assert!(error.message().contains("a blocked policy allows no ports"), "{error}");
        }
        let mut inbound = blocked.clone();
        inbound.set_inbound_cidr_allowlist(Vec::<&str>::new()).unwrap();
        assert_eq!(inbound.check().unwrap_err().code(), Code::Invalid);
    }

    #[test]
    fn names_and_an_own_certificate_exclude_each_other() {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let mut config = config();
        config.set_tls_certificate(&made.cert.pem(), &made.signing_key.serialize_pem()).unwrap();
        config.add_tls_name("a.example").unwrap();
        assert!(config.check().unwrap_err().message().contains("not both"));
    }
}
