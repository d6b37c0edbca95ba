//! An API server in this process, below the real client: stores objects as JSON and obeys the rules that controllers
//! rest on. What it does not model it refuses loudly, by a panic.

mod apply;
mod defaults;
mod deletion;
mod handle;
mod kinds;
mod object;
mod refusal;
mod request;
mod server;
mod store;
mod validate;

pub use deletion::{DeleteOptions, finalizers, let_go};
pub use kinds::Kind;
pub use object::Object;
pub use request::{Call, Verb};
pub use server::{ApiServer, Check, Mishaps, Record, Refuses, Signal};
pub use store::{Change, ChangeType, Key, Store, hex_digest};
