//! A runtime's volumes.

use super::Runtime;
use crate::config::volume::volume_name;
use crate::error::Result;
use crate::event::{Operation, Queue};
use crate::image::workers::Pace;
use crate::volume::VolumeInfo;

/// Volumes: named directories that outlive sandboxes, in a store that all of the user's programs share. A sandbox gets one
/// by [`Config::mount_volume`](crate::Config::mount_volume).
///
/// Operations on volumes wait in the same queues as those on images. A removal is slow if there are many files.
impl Runtime {
    /// Makes a volume. One that exists is an error ([`Code::Exists`](crate::Code::Exists)) unless it `may_exist`.
    pub fn create_volume(&self, name: &str, may_exist: bool) -> Result<VolumeInfo> {
        self.create_volume_begin(name, may_exist, None)?.wait(None).map(|info| info.as_ref().clone())
    }

    /// Begins that and returns at once.
    pub fn create_volume_begin(
        &self,
        name: &str,
        may_exist: bool,
        events: Option<(&Queue, u64)>,
    ) -> Result<Operation<VolumeInfo>> {
        volume_name(name)?;
        let (volumes, name) = (self.inner.host.get().volumes(), name.to_owned());
        let title = format!("making the volume {name}");
        self.inner.images.begin_other(Pace::Quick, title, events, move |_| volumes.create(&name, may_exist))
    }

    /// Looks a volume up.
    pub fn find_volume(&self, name: &str) -> Result<VolumeInfo> {
        self.find_volume_begin(name, None)?.wait(None).map(|info| info.as_ref().clone())
    }

    /// Begins that and returns at once.
    pub fn find_volume_begin(
        &self,
        name: &str,
        events: Option<(&Queue, u64)>,
    ) -> Result<Operation<VolumeInfo>> {
        volume_name(name)?;
        let (volumes, name) = (self.inner.host.get().volumes(), name.to_owned());
        let title = format!("looking for the volume {name}");
        self.inner.images.begin_other(Pace::Quick, title, events, move |_| volumes.find(&name))
    }

    /// The volumes, by name.
    pub fn list_volumes(&self) -> Result<Vec<VolumeInfo>> {
        self.list_volumes_begin(None)?.wait(None).map(|all| all.to_vec())
    }

    /// Begins that and returns at once.
    pub fn list_volumes_begin(&self, events: Option<(&Queue, u64)>) -> Result<Operation<Vec<VolumeInfo>>> {
        let volumes = self.inner.host.get().volumes();
        let title = "listing the volumes".to_owned();
        self.inner.images.begin_other(Pace::Quick, title, events, move |_| volumes.list())
    }

    /// Removes a volume with everything in it. Refused while a sandbox of any of the user's programs has it mounted
    /// ([`Code::State`](crate::Code::State)).
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        self.remove_volume_begin(name, None)?.wait(None).map(drop)
    }

    /// Begins that and returns at once. The name is free at once; one that is cancelled leaves files that the next removal
    /// takes.
    pub fn remove_volume_begin(&self, name: &str, events: Option<(&Queue, u64)>) -> Result<Operation<()>> {
        volume_name(name)?;
        let (volumes, name) = (self.inner.host.get().volumes(), name.to_owned());
        let title = format!("removing the volume {name}");
        self.inner.images.begin_other(Pace::Slow, title, events, move |ended| volumes.remove(&name, ended))
    }
}
