//! The warm pool, as decisions: how many members each template has, which sandbox takes one, when another is made.
//!
//! A member is a sandbox that has started up to its init, with rules that allow nothing, and that nothing of a caller's was
//! ever in. A spare is a member that has started less far, up to a runsc that has not read its bundle: it costs little, and
//! saves a part of the time. Its template isn't set by the host, but is what the last creations had in common.
//! The control thread makes members, one at a time and only while no sandbox of the host's is being created. A
//! creation takes one if its fixed settings are a template's ([`StartKey`]) and if what the host has is what the member was
//! made from ([`crate::sandbox::Stamp`]); else it goes the ordinary way.
//!
//! Nothing here has a descriptor, a thread or a clock.
//!
//! One file: templates, members and spares are one table, and each decision looks at all of it.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::warm_stats::{Miss, WarmStats};
use crate::config::{Config, StartKey};
use crate::error::{Code, Error, Result};

/// The most templates, and the most members of all of them together.
const MAX_TEMPLATES: usize = 16;
const MAX_MEMBERS: usize = 256;

/// How long a member waits at most. Then another takes its place. Its own lifetime, which the keeper holds too, is
/// longer by a minute.
const MAX_AGE: Duration = Duration::from_secs(3600);
const AGE_SLACK: Duration = Duration::from_secs(60);
/// A template that no creation has matched for this long keeps [`IDLE_MEMBERS`], until the next one does.
const IDLE_AFTER: Duration = Duration::from_secs(600);
const IDLE_MEMBERS: usize = 1;
/// A spare's template that no creation has matched for this long is forgotten.
const SPARE_IDLE_AFTER: Duration = Duration::from_secs(30);
/// How long there was no creation before a member is made, and before a spare is, which takes less.
const QUIET: Duration = Duration::from_millis(20);
const SPARE_QUIET: Duration = Duration::from_millis(2);
/// How long no member is made after some were ended for what they hold.
const PRESSURE_PAUSE: Duration = Duration::from_secs(10);

/// What there is for a creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is no pool.
    Nothing,
    /// These members, the oldest first.
    Members(Vec<u64>),
    /// None that fits.
    Miss,
}

/// Sandboxes that are alike until their program starts.
#[derive(Debug)]
struct Template {
    key: StartKey,
    /// Its members are spares.
    is_spare: bool,
    config: Config,
    /// What the host asked for, and how often each thing has happened. `ready` and `filling` are empty here.
    stats: WarmStats,
    /// Members that can be taken, the oldest first.
    ready: VecDeque<Member>,
    /// Creations that are being planned and are likely to take a member, since there were enough.
    expected: Vec<u64>,
    /// The last creation that it matched.
    used: Instant,
    backoff: Backoff,
    /// The order of what the last miss and the last failure were.
    last_change: u64,
}

impl Template {
    /// The members that no creation is about to take, the oldest first.
    fn free(&self) -> impl Iterator<Item = &Member> {
        self.ready.iter().filter(|member| !member.is_claimed)
    }

    /// Without members so far.
    fn new(now: Instant, key: StartKey, config: Config, is_spare: bool) -> Self {
        Self {
            key,
            is_spare,
            config,
            stats: WarmStats::default(),
            ready: VecDeque::new(),
            expected: Vec::new(),
            used: now,
            backoff: Backoff::default(),
            last_change: 0,
        }
    }

    /// How long after the last creation that matched it it is idle, how many members it then has, and how long there was no
    /// creation before one is made.
    fn times(&self) -> (Duration, usize, Duration) {
        if self.is_spare { (SPARE_IDLE_AFTER, 0, SPARE_QUIET) } else { (IDLE_AFTER, IDLE_MEMBERS, QUIET) }
    }

    /// How many members it is to have now.
    fn target(&self, now: Instant) -> usize {
        let wanted = usize::try_from(self.stats.wanted).unwrap_or(usize::MAX);
        let (idle_after, idle_members, _) = self.times();
        let is_idle = now.saturating_duration_since(self.used) >= idle_after;
        if is_idle { wanted.min(idle_members) } else { wanted }
    }

    /// Whether the member that is being made is one of its.
    fn fills(&self, filling: &Filling) -> bool {
        self.key == filling.key && self.is_spare == filling.is_spare
    }

    fn fail(&mut self, now: Instant, error: &str) {
        self.stats.failures += 1;
        self.stats.last_failure = Some(error.to_owned());
        self.backoff.fail(now);
    }
}

/// A member that can be taken.
#[derive(Clone, Copy, Debug)]
struct Member {
    number: u64,
    since: Instant,
    /// A creation takes it as soon as it gives a sign of life.
    is_claimed: bool,
}

/// A member that is being made.
#[derive(Debug)]
struct Filling {
    number: u64,
    key: StartKey,
    is_spare: bool,
}

/// A member that is to be made.
#[derive(Clone, Debug)]
pub(super) struct Next {
    pub(super) config: Config,
    pub(super) is_spare: bool,
}

/// The pool of one runtime.
#[derive(Debug, Default)]
pub(super) struct Pool {
    templates: Vec<Template>,
    filling: Option<Filling>,
    /// Members that are being ended.
    ending: HashSet<u64>,
    /// No member is made before.
    paused_until: Option<Instant>,
    changes: u64,
    /// How many spares there are to be.
    spares: u32,
    /// What the last creation was started with, and when, if that isn't what the spares are.
    last: Option<(StartKey, Instant)>,
}

impl Pool {
    /// Sets how many members a template has; none removes it.
    pub(super) fn set(&mut self, now: Instant, template: &Config, count: u32) -> Result<()> {
        let config = template.of_member(MAX_AGE.saturating_add(AGE_SLACK))?;
        let key = StartKey::of(&config);
        let others = self.templates.iter().filter(|one| !one.is_spare && one.key != key);
        let members = others.clone().map(|one| u64::from(one.stats.wanted)).sum::<u64>() + u64::from(count);
        if members > MAX_MEMBERS as u64 {
            let text = format!(
                "warm pool: {members} members: a runtime has at most {MAX_MEMBERS} for all templates"
            );
            return Err(Error::invalid(text));
        }
        if count > 0 && others.count() >= MAX_TEMPLATES {
            let text =
                format!("warm pool: a runtime has at most {MAX_TEMPLATES} templates; set others to 0 first");
            return Err(Error::new(Code::Limit, text));
        }
        // Spares for the same are of no use any more.
        for spares in self.templates.iter_mut().filter(|one| one.is_spare && one.key == key && count > 0) {
            spares.stats.wanted = 0;
        }
        match self.templates.iter_mut().find(|one| !one.is_spare && one.key == key) {
            Some(known) => {
                (known.stats.wanted, known.used, known.config) = (count, now, config);
                known.backoff = Backoff::default();
            }
            None if count == 0 => {}
            None => {
                let mut template = Template::new(now, key, config, false);
                template.stats.wanted = count;
                self.templates.push(template);
            }
        }
        Ok(())
    }

    /// Sets how many spares there are.
    pub(super) fn set_spares(&mut self, count: u32) {
        self.spares = count;
        self.last = None;
        for template in self.templates.iter_mut().filter(|one| one.is_spare && one.stats.wanted > 0) {
            template.stats.wanted = count;
        }
    }

    /// How many spares there are to be.
    pub(super) fn spares(&self) -> u32 {
        self.spares
    }

    /// A creation has begun that takes no member but a spare. Two in a row that are alike are what the spares are for: one
    /// sandbox alone is not worth any, and neither are those that differ from each other or come too rarely.
    pub(super) fn created(&mut self, now: Instant, config: &Config) {
        if self.spares == 0 {
            return;
        }
        let key = StartKey::of(config);
        let current = self.templates.iter_mut().find(|one| one.is_spare && one.stats.wanted > 0);
        if let Some(current) = current.filter(|one| one.key == key) {
            current.used = now;
            self.last = None;
            return;
        }
        let is_warm = self.templates.iter().any(|one| !one.is_spare && one.key == key);
        let config = config.of_member(MAX_AGE.saturating_add(AGE_SLACK));
        let Some(config) = config.ok().filter(|_| !is_warm) else { return };
        let last = self.last.take().filter(|(_, at)| now.saturating_duration_since(*at) < SPARE_IDLE_AFTER);
        if last.is_none_or(|(last, _)| last != key) {
            self.last = Some((key, now));
            return;
        }
        for template in self.templates.iter_mut().filter(|one| one.is_spare) {
            template.stats.wanted = 0;
        }
        match self.templates.iter_mut().find(|one| one.is_spare && one.key == key) {
            Some(known) => (known.stats.wanted, known.used, known.config) = (self.spares, now, config),
            None => {
                let mut template = Template::new(now, key, config, true);
                template.stats.wanted = self.spares;
                self.templates.push(template);
            }
        }
    }

    /// What the pool has and has done; with a template, that one alone.
    pub(super) fn stats(&self, template: Option<&Config>) -> WarmStats {
        let key = template.map(StartKey::of);
        self.sum(|one| !one.is_spare && key.as_ref().is_none_or(|key| one.key == *key))
    }

    /// The same of the spares.
    #[cfg(any(test, feature = "test-hooks"))]
    pub(super) fn spare_stats(&self) -> WarmStats {
        self.sum(|one| one.is_spare)
    }

    fn sum(&self, is_chosen: impl Fn(&&Template) -> bool) -> WarmStats {
        let mut chosen: Vec<&Template> = self.templates.iter().filter(is_chosen).collect();
        chosen.sort_by_key(|one| one.last_change);
        let mut sum = WarmStats::default();
        for one in chosen {
            let filling = self.filling.as_ref().is_some_and(|filling| one.fills(filling));
            sum.add(&WarmStats {
                ready: u32::try_from(one.free().count()).unwrap_or(u32::MAX),
                filling: u32::from(filling),
                ..one.stats.clone()
            });
        }
        sum
    }

    /// The runtime ends: no member is made or found any more.
    pub(super) fn clear(&mut self) {
        self.spares = 0;
        self.templates.clear();
        self.filling = None;
    }

    /// Whether a creation may find a member, or members are to be made.
    pub(super) fn is_on(&self) -> bool {
        !self.templates.is_empty() || self.spares > 0
    }

    /// Whether nothing is left to do.
    pub(super) fn is_idle(&self) -> bool {
        self.templates.is_empty() && self.filling.is_none() && self.ending.is_empty()
    }

    /// Whether the sandbox of that number is a member that is being made.
    pub(super) fn is_filling(&self, number: u64) -> bool {
        self.filling.as_ref().is_some_and(|filling| filling.number == number)
    }

    /// Whether that is a spare.
    pub(super) fn is_filling_spare(&self, number: u64) -> bool {
        self.filling.as_ref().is_some_and(|filling| filling.number == number && filling.is_spare)
    }

    /// The member that is being made.
    pub(super) fn filling(&self) -> Option<u64> {
        self.filling.as_ref().map(|filling| filling.number)
    }

    /// The member that is likely to be this creation's once it is planned, if there are more than other creations that are
    /// being planned will take. `is_planned` says whether another one still is.
    pub(super) fn expect(
        &mut self,
        number: u64,
        config: &Config,
        is_planned: impl FnMut(&u64) -> bool,
    ) -> Option<u64> {
        if !self.is_on() {
            return None;
        }
        let key = StartKey::of(config);
        let template = self.templates.iter_mut().find(|one| !one.is_spare && one.key == key)?;
        template.expected.retain(is_planned);
        let member = template.free().nth(template.expected.len())?.number;
        template.expected.push(number);
        Some(member)
    }

    /// The members for a creation. One that goes the ordinary way after all is counted by [`Pool::missed`].
    pub(super) fn find(&mut self, now: Instant, config: &Config) -> Found {
        if !self.is_on() {
            return Found::Nothing;
        }
        let key = StartKey::of(config);
        let mut members = Vec::new();
        let mut templates: Vec<&mut Template> =
            self.templates.iter_mut().filter(|one| one.key == key).collect();
        templates.sort_by_key(|one| one.is_spare);
        for template in templates {
            template.used = now;
            members.extend(template.free().map(|member| member.number));
        }
        if members.is_empty() { Found::Miss } else { Found::Members(members) }
    }

    /// This creation takes this member as soon as it gives a sign of life; no other does.
    pub(super) fn claim(&mut self, number: u64, creation: u64) {
        self.set_claimed(number, true);
        if let Some(template) = self.template_of(number) {
            template.expected.retain(|other| *other != creation);
        }
    }

    /// The creation that was to take this member doesn't.
    pub(super) fn unclaim(&mut self, number: u64) {
        self.set_claimed(number, false);
    }

    fn set_claimed(&mut self, number: u64, is_claimed: bool) {
        let members = self.templates.iter_mut().flat_map(|one| one.ready.iter_mut());
        for member in members.filter(|member| member.number == number) {
            member.is_claimed = is_claimed;
        }
    }

    /// A creation takes this member.
    pub(super) fn take(&mut self, number: u64) {
        if let Some(template) = self.template_of(number) {
            template.ready.retain(|other| other.number != number);
            template.stats.hits += 1;
            template.backoff.succeed();
        }
    }

    /// A creation goes the ordinary way; `miss` is why if it fits a template.
    pub(super) fn missed(&mut self, config: &Config, miss: Miss) {
        let key = StartKey::of(config);
        let set = self.templates.iter().enumerate().filter(|(_, one)| !one.is_spare);
        let differences = set.map(|(index, one)| (index, one.key.differences(&key)));
        let Some((index, differences)) = differences.min_by_key(|(_, differences)| differences.len()) else {
            return;
        };
        self.changes += 1;
        if let Some(template) = self.templates.get_mut(index) {
            template.stats.missed(&differences, miss);
            template.last_change = self.changes;
        }
    }

    /// This member is being ended, unused.
    pub(super) fn discard(&mut self, number: u64) {
        if let Some(template) = self.template_of(number) {
            template.ready.retain(|other| other.number != number);
            template.stats.discarded += 1;
            self.ending.insert(number);
        }
    }

    /// A member that a creation needs ended for what it holds: one of the template that was used least recently. `None` if
    /// there is none. No other is made for a while.
    pub(super) fn evict(&mut self, now: Instant) -> Option<u64> {
        self.paused_until = now.checked_add(PRESSURE_PAUSE);
        // A spare saves least, and one that is being made nothing yet.
        if let Some(filling) = self.filling.take_if(|filling| filling.is_spare) {
            self.ending.insert(filling.number);
            return Some(filling.number);
        }
        let oldest = self.templates.iter().filter(|one| one.free().next().is_some());
        let oldest = oldest.min_by_key(|one| (!one.is_spare, one.used));
        let number = oldest.and_then(|one| one.free().next()).map(|member| member.number);
        if let Some(number) = number {
            self.discard(number);
            return Some(number);
        }
        let filling = self.filling.take()?;
        self.ending.insert(filling.number);
        Some(filling.number)
    }

    /// Whether members are ending.
    pub(super) fn is_ending_some(&self) -> bool {
        !self.ending.is_empty()
    }

    /// Forgets the members that were ending and are not there any more. Whether there were any.
    pub(super) fn forget_ended(&mut self, is_there: impl Fn(u64) -> bool) -> bool {
        let before = self.ending.len();
        self.ending.retain(|number| is_there(*number));
        self.ending.len() < before
    }

    /// A member that is to be ended: there are too many, or it is too old. The one that is being made isn't wanted any more
    /// if its template is complete, or has gone.
    pub(super) fn surplus(&mut self, now: Instant) -> Option<u64> {
        let over = self.templates.iter().find_map(|one| {
            let oldest = one.free().next()?;
            let is_old = now.saturating_duration_since(oldest.since) >= MAX_AGE;
            (is_old || one.ready.len() > one.target(now)).then_some(oldest.number)
        });
        if let Some(number) = over {
            self.discard(number);
            return Some(number);
        }
        let is_kept = |one: &Template| if one.is_spare { one.target(now) > 0 } else { one.stats.wanted > 0 };
        self.templates.retain(|one| is_kept(one) || !one.ready.is_empty());
        let templates = &self.templates;
        let unwanted = self.filling.take_if(|filling| {
            let template = templates.iter().find(|one| one.fills(filling));
            template.is_none_or(|one| one.ready.len() >= one.target(now))
        })?;
        self.ending.insert(unwanted.number);
        Some(unwanted.number)
    }

    /// The member to make next, if one is to be made now: of the template that lacks most. `quiet` is since when there was no
    /// creation.
    pub(super) fn next(&self, now: Instant, quiet: Instant) -> Option<Next> {
        if self.filling.is_some() {
            return None;
        }
        let lacking = self.templates.iter().filter(|one| self.resumes(one, quiet).is_none_or(|at| at <= now));
        let lacking = lacking.map(|one| (one.target(now).saturating_sub(one.ready.len()), one));
        let (_, template) =
            lacking.filter(|(count, _)| *count > 0).max_by_key(|(count, one)| (!one.is_spare, *count))?;
        Some(Next { config: template.config.clone(), is_spare: template.is_spare })
    }

    /// When a member of this template may be made.
    fn resumes(&self, template: &Template, quiet: Instant) -> Option<Instant> {
        let (_, _, pause) = template.times();
        self.paused_until.max(quiet.checked_add(pause)).max(template.backoff.until())
    }

    /// When there may be something to do next, if nothing happens before.
    pub(super) fn next_look(&self, now: Instant, quiet: Instant) -> Option<Instant> {
        let looks = self.templates.iter().filter_map(|one| {
            let lacks = one.ready.len() < one.target(now) && self.filling.is_none();
            let may = self.resumes(one, quiet).filter(|_| lacks);
            let (idle_after, idle_members, _) = one.times();
            let idle = one
                .used
                .checked_add(idle_after)
                .filter(|at| *at > now && (one.is_spare || one.ready.len() > idle_members));
            let old = one.free().next().and_then(|oldest| oldest.since.checked_add(MAX_AGE));
            may.into_iter().chain(idle).chain(old).min()
        });
        looks.min()
    }

    /// The member of that number is being made.
    pub(super) fn began(&mut self, number: u64, next: &Next) {
        self.filling = Some(Filling { number, key: StartKey::of(&next.config), is_spare: next.is_spare });
    }

    /// A creation can take it.
    pub(super) fn ready(&mut self, now: Instant, number: u64) {
        let Some(filling) = self.filling.take_if(|filling| filling.number == number) else { return };
        if let Some(template) = self.templates.iter_mut().find(|one| one.fills(&filling)) {
            template.ready.push_back(Member { number, since: now, is_claimed: false });
        }
    }

    /// The member of that number is ending, for this reason unless it was to end.
    pub(super) fn lost(&mut self, now: Instant, number: u64, error: &str) {
        if !self.ending.insert(number) {
            return;
        }
        self.changes += 1;
        let change = self.changes;
        let filling = self.filling.take_if(|filling| filling.number == number);
        let template = match filling {
            Some(filling) => self.templates.iter_mut().find(|one| one.fills(&filling)),
            None => self.template_of(number),
        };
        if let Some(template) = template {
            template.ready.retain(|other| other.number != number);
            template.last_change = change;
            template.fail(now, error);
        }
    }

    fn template_of(&mut self, number: u64) -> Option<&mut Template> {
        self.templates.iter_mut().find(|one| one.ready.iter().any(|member| member.number == number))
    }
}

#[cfg(test)]
#[path = "warm_tests.rs"]
mod tests;
