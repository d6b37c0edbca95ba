//! All that the operator and its Jobs say to each other: what a Job is asked ([`task`]), and what it answers
//! ([`verdict`], [`failure`]).

pub mod failure;
pub mod task;
pub mod verdict;
