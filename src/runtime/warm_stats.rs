//! What the warm pool has and has done, and why creations took nothing of it.

/// Why a creation took no member of a template that it fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Miss {
    /// None was ready.
    #[default]
    Empty,
    /// None was what would be started now: what they differed in.
    Changed(&'static str),
    /// The one that it was to take gave no sign of life.
    Died,
}

/// What the warm pool of a runtime, or one template of it, has and has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WarmStats {
    /// Members that were asked for.
    pub wanted: u32,
    /// Members that a creation can take now.
    pub ready: u32,
    /// Members that are being made.
    pub filling: u32,
    /// Creations that took a member.
    pub hits: u64,
    /// Creations that found no member ready, or only one that has died.
    pub misses_empty: u64,
    /// Creations whose settings were not the template's. Counted for the template that is most like them.
    pub misses_different: u64,
    /// Creations for which the members were not current any more, because something on the host has changed.
    pub misses_changed: u64,
    /// Members that ended unused: too old, not current, too many, or in the way of a creation.
    pub discarded: u64,
    /// Members that could not be made, or that died.
    pub failures: u64,
    /// Why the last creation that took none took none.
    pub last_miss: Option<String>,
    /// Why the last member that failed did.
    pub last_failure: Option<String>,
}

impl WarmStats {
    pub(super) fn add(&mut self, other: &Self) {
        self.wanted = self.wanted.saturating_add(other.wanted);
        self.ready = self.ready.saturating_add(other.ready);
        self.filling = self.filling.saturating_add(other.filling);
        self.hits += other.hits;
        self.misses_empty += other.misses_empty;
        self.misses_different += other.misses_different;
        self.misses_changed += other.misses_changed;
        self.discarded += other.discarded;
        self.failures += other.failures;
        if other.last_miss.is_some() {
            self.last_miss.clone_from(&other.last_miss);
        }
        if other.last_failure.is_some() {
            self.last_failure.clone_from(&other.last_failure);
        }
    }

    /// Counts a creation that took no member: these settings of it are not the template's, or `miss` is why.
    pub(super) fn missed(&mut self, differences: &[&str], miss: Miss) {
        let (count, why) = match miss {
            _ if !differences.is_empty() => {
                let text = format!("different from the template: {}", differences.join(", "));
                (&mut self.misses_different, text)
            }
            Miss::Changed(what) => {
                (&mut self.misses_changed, format!("changed since the members were made: {what}"))
            }
            Miss::Empty => (&mut self.misses_empty, "no member was ready".to_owned()),
            Miss::Died => {
                let text = "the member that was to be taken has died or does not answer";
                (&mut self.misses_empty, text.to_owned())
            }
        };
        *count += 1;
        self.last_miss = Some(why);
    }
}
