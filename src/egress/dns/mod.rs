//! The sandbox's resolver: questions under policy, answers filtered.

mod cache;
mod filter;
mod message;
mod name;
mod record;
mod upstreams;
mod write;

#[cfg(test)]
mod tests;
