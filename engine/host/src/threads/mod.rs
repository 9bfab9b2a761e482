//! CPUs that really run at the same time: threads that make calls on one machine. Trust label: TOOL.
//!
//! What the engine's protocol (`engine/docs/locking.md`) keeps for one CPU at a time (translation tables under the
//! ownership lock, a context under its claim) is plain memory here, so that ThreadSanitizer sees when it does not.
#![allow(unsafe_code, reason = "memory that threads share as the protocol permits, which is what is tested")]

mod driver;
mod machine;
