//! Both directions of a relay over simulated ends: a thousand seeds, each another interleaving of short reads,
//! short writes, stops, ends and failures. After every step the invariants hold.

use std::io;

use super::{CHUNK, Drained, Failure, Flow, FlowProgress, Received, Scratch, Transport, drain};

/// A generator that a seed repeats.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// A socket whose peer has `source` to send and has taken `taken`.
#[derive(Default)]
struct Fake {
    source: Vec<u8>,
    offered: usize,
    read: usize,
    ends: bool,
    taken: Vec<u8>,
    room: usize,
    queue: Vec<u8>,
    readable: bool,
    writable: bool,
    finished: bool,
    cut: bool,
}

impl Fake {
    fn put(&mut self) -> usize {
        let count = self.queue.len().min(self.room);
        self.taken.extend(self.queue.drain(..count));
        self.room -= count;
        self.writable = self.queue.is_empty();
        count
    }
}

impl Transport for Fake {
    fn can_read(&self) -> bool {
        self.readable
    }
    fn can_write(&self) -> bool {
        self.writable
    }
    fn receive(&mut self, scratch: &mut Scratch, limit: usize) -> io::Result<Received> {
        assert!(self.readable, "a read that can bring nothing");
        let count = (self.offered - self.read).min(limit);
        if count > 0 {
            scratch.plain[..count].copy_from_slice(&self.source[self.read..self.read + count]);
            self.read += count;
            return Ok(Received::Data { length: count, work: count });
        }
        if self.cut {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if self.ends && self.read == self.source.len() {
            return Ok(Received::End);
        }
        self.readable = false;
        Ok(Received::Blocked)
    }
    fn send(&mut self, scratch: &mut Scratch, length: usize) -> io::Result<()> {
        assert!(!self.finished, "data after the end");
        assert!(self.queue.is_empty(), "more is read while the far side is blocked");
        if self.cut {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.queue.extend_from_slice(&scratch.plain[..length]);
        self.put();
        scratch.held += self.queue.len();
        Ok(())
    }
    fn flush(&mut self, scratch: &mut Scratch) -> io::Result<()> {
        assert!(self.writable);
        let count = self.put();
        scratch.held -= count;
        Ok(())
    }
    fn queued(&self) -> usize {
        self.queue.len()
    }
    fn is_delivered(&self) -> bool {
        self.queue.is_empty()
    }
    fn finish(&mut self, scratch: &mut Scratch) -> io::Result<bool> {
        self.flush(scratch)?;
        self.finished |= self.queue.is_empty();
        Ok(self.finished)
    }
}

fn bytes(dice: &mut Dice) -> Vec<u8> {
    let length = [0, 1, 1000, 300_000, 1_000_000][dice.roll(5)];
    let salt = dice.roll(251);
    (0..length).map(|n: usize| u8::try_from((n * 7 + n / 251 + salt) % 256).unwrap()).collect()
}

/// What the kernel and the peer may do between two wake-ups.
fn happen(fake: &mut Fake, dice: &mut Dice) {
    match dice.roll(3) {
        0 => {
            let more = dice.roll(400_000) + 1;
            fake.offered = (fake.offered + more).min(fake.source.len());
            fake.readable = true;
        }
        1 => {
            fake.room += dice.roll(400_000) + 1;
            fake.writable = true;
        }
        _ => {}
    }
}

#[test]
fn whatever_the_order_all_bytes_arrive_and_then_the_end() {
    for seed in 0..1000 {
        let mut dice = Dice(seed);
        let mut scratch = Scratch::new();
        let (mut front, mut back) =
            (Fake { ends: true, ..Fake::default() }, Fake { ends: true, ..Fake::default() });
        front.source = bytes(&mut dice);
        back.source = bytes(&mut dice);
        let (mut up, mut down) = (Flow::default(), Flow::default());
        let (mut inward, mut outward) = (0, 0);
        let mut steps = 0;
        while !(up.is_done() && down.is_done()) {
            steps += 1;
            assert!(steps < 10_000, "seed {seed}: stuck");
            happen(&mut front, &mut dice);
            happen(&mut back, &mut dice);
            let budget = dice.roll(600_000) + 1;
            loop {
                let (mut left, mut room) = (budget, budget);
                let up = up.run(&mut front, &mut back, &mut scratch, &mut left, &mut inward).unwrap();
                let down = down.run(&mut back, &mut front, &mut scratch, &mut room, &mut outward).unwrap();
                assert!(front.queued() <= CHUNK && back.queued() <= CHUNK, "seed {seed}: bounded");
                assert_eq!(scratch.held, front.queued() + back.queued(), "seed {seed}: counted");
                if up != FlowProgress::Again && down != FlowProgress::Again {
                    break;
                }
            }
            assert!(front.source.starts_with(&back.taken), "seed {seed}: in order");
            assert!(back.source.starts_with(&front.taken), "seed {seed}: in order");
        }
        assert!(back.taken == front.source && front.taken == back.source, "seed {seed}: whole");
        assert_eq!((inward, outward), (front.source.len() as u64, back.source.len() as u64));
        assert!(front.finished && back.finished && scratch.held == 0);
    }
}

#[test]
fn what_was_sent_before_a_cut_is_delivered_before_it_is_passed_on() {
    for seed in 0..1000 {
        let mut dice = Dice(seed);
        let mut scratch = Scratch::new();
        let (mut front, mut back) = (Fake { writable: true, ..Fake::default() }, Fake::default());
        back.source = bytes(&mut dice);
        (back.offered, back.readable, back.cut) = (back.source.len(), true, true);
        let (mut down, mut outward, mut failed) = (Flow::default(), 0, false);
        for step in 0.. {
            assert!(step < 10_000, "seed {seed}: stuck");
            front.room += dice.roll(400_000) + 1;
            front.writable = true;
            if failed {
                let mut left = dice.roll(600_000) + 1;
                if drain(&mut back, &mut front, &mut scratch, &mut left, &mut outward).unwrap()
                    == Drained::Whole
                {
                    break;
                }
                continue;
            }
            let mut left = dice.roll(600_000) + 1;
            match down.run(&mut back, &mut front, &mut scratch, &mut left, &mut outward) {
                Ok(_) => {}
                Err(Failure::Reading(_)) => failed = true,
                Err(other) => panic!("seed {seed}: {other:?}"),
            }
        }
        assert!(front.taken == back.source && !front.finished, "seed {seed}");
        assert_eq!(scratch.held, 0);
    }
}

/// An end that always has more and takes everything.
struct Endless;

impl Transport for Endless {
    fn can_read(&self) -> bool {
        true
    }
    fn can_write(&self) -> bool {
        true
    }
    fn receive(&mut self, _: &mut Scratch, limit: usize) -> io::Result<Received> {
        Ok(Received::Data { length: limit, work: limit })
    }
    fn send(&mut self, _: &mut Scratch, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn flush(&mut self, _: &mut Scratch) -> io::Result<()> {
        Ok(())
    }
    fn queued(&self) -> usize {
        0
    }
    fn is_delivered(&self) -> bool {
        true
    }
    fn finish(&mut self, _: &mut Scratch) -> io::Result<bool> {
        Ok(true)
    }
}

#[test]
fn a_drain_between_ends_that_never_run_dry_ends_with_its_budget_and_goes_on() {
    let mut scratch = Scratch::new();
    for turn in 1..4 {
        let (mut left, mut moved) = (1 << 20, 0);
        let drained = drain(&mut Endless, &mut Endless, &mut scratch, &mut left, &mut moved).unwrap();
        assert_eq!((drained, moved, left), (Drained::Again, 1 << 20, 0), "turn {turn}");
    }
}
