//! What the rest of the crate reads of the settings.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::Config;
use super::certificate::Certificate;
use super::egress::EgressLimits;
use super::environment::Environment;
use super::image::{ImageMount, RootImage};
use super::mount::Mount;
use super::port::Port;
use super::probe::Probe;
use super::stdio::{Stdio, Stream};
use super::user::User;
use super::volume::MountedVolume;
use crate::event::Queue;
use crate::policy::Policy;

impl Config {
    pub(crate) fn command(&self) -> &[String] {
        &self.command
    }

    pub(crate) fn env(&self) -> &Environment {
        &self.env
    }

    pub(crate) fn workdir(&self) -> &str {
        self.workdir.as_deref().unwrap_or("/")
    }

    /// `None` is the sandbox's root.
    pub(crate) fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    pub(crate) fn hostname(&self) -> Option<&str> {
        self.hostname.as_deref()
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(crate) fn tags(&self) -> &BTreeMap<String, String> {
        &self.tags
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout
    }

    pub(crate) fn rootfs(&self) -> Option<&Path> {
        self.rootfs.as_deref()
    }

    /// The signal that asks its program to end: the image's, or SIGTERM.
    pub(crate) fn stop_signal(&self) -> i32 {
        self.image.as_ref().and_then(RootImage::stop_signal).unwrap_or(libc::SIGTERM)
    }

    /// The image that is the root file system.
    pub(crate) fn image(&self) -> Option<&RootImage> {
        self.image.as_ref()
    }

    /// Whether a snapshot is taken at the end, and the name that it gets.
    pub(crate) fn exit_snapshot(&self) -> Option<&Option<String>> {
        self.exit_snapshot.as_ref()
    }

    /// What is set of that which decides what runs on which files, and so what a program leaves behind: its name, for errors.
    pub(crate) fn said_of_what_runs(&self) -> Option<&'static str> {
        // Each field is named, so that a new one is decided about.
        let Self {
            command,
            entrypoint,
            has_no_command: _,
            env,
            workdir,
            user,
            hostname,
            name,
            tags: _,
            timeout: _,
            idle_timeout: _,
            rootfs,
            image,
            mounts,
            image_mounts,
            tmp_in_root: _,
            volumes,
            ports,
            inbound: _,
            certificate: _,
            tls_names: _,
            tunnel_rate: _,
            policy: _,
            egress_limits: _,
            host_services: _,
            nameservers: _,
            mtu: _,
            limits: _,
            stdin: _,
            stdout: _,
            stderr: _,
            probe,
            exit_snapshot,
            queue: _,
            bad: _,
        } = self;
        let said = [
            ("command", !command.is_empty()),
            ("entrypoint", entrypoint.is_some()),
            ("image", image.is_some()),
            ("rootfs", rootfs.is_some()),
            ("environment", env.iter().next().is_some()),
            ("working directory", workdir.is_some()),
            ("user", user.is_some()),
            ("hostname", hostname.is_some()),
            ("mounts", !mounts.is_empty() || !image_mounts.is_empty()),
            ("volumes", !volumes.is_empty()),
            ("ports", !ports.is_empty()),
            ("readiness probe", probe.is_some()),
            ("exit snapshot", exit_snapshot.is_some()),
            ("name", name.is_some()),
        ];
        said.into_iter().find_map(|(what, is_set)| is_set.then_some(what))
    }

    pub(crate) fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    pub(crate) fn image_mounts(&self) -> &[ImageMount] {
        &self.image_mounts
    }

    /// Whether /tmp belongs to the root file system, as for steps of a build: what one leaves there, the next one has.
    pub(crate) fn has_tmp_in_root(&self) -> bool {
        self.tmp_in_root
    }

    pub(crate) fn volumes(&self) -> &[MountedVolume] {
        &self.volumes
    }

    pub(crate) fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// `None` admits every peer, an empty list none.
    pub(crate) fn inbound_cidr_allowlist(&self) -> Option<&[IpNetwork]> {
        self.inbound.as_deref()
    }

    pub(crate) fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    pub(crate) fn tls_names(&self) -> &[String] {
        &self.tls_names
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Budgets of what leaves.
    pub(crate) fn egress_limits(&self) -> EgressLimits {
        self.egress_limits
    }

    pub(crate) fn mtu(&self) -> u32 {
        self.mtu
    }

    pub(crate) fn stdio(&self, stream: Stream) -> Stdio {
        match stream {
            Stream::Stdin => self.stdin,
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }

    pub(crate) fn readiness_probe(&self) -> Option<&Probe> {
        self.probe.as_ref()
    }

    pub(crate) fn queue(&self) -> Option<(&Queue, u64)> {
        self.queue.as_ref().map(|(queue, cookie)| (queue, *cookie))
    }
}
