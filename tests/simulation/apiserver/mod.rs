//! An API server in this process, below the real client: stores objects as JSON and obeys the rules that controllers
//! rest on. What it does not model it refuses loudly, by a panic.

mod apply;
mod handle;
mod kinds;
mod object;
mod request;
mod server;
mod store;
mod validate;

pub use kinds::Kind;
pub use object::Object;
pub use request::{Call, Verb};
pub use server::{ApiServer, Check, Mishaps, Record, Refuses, Signal};
pub use store::{Change, ChangeType, DeleteOptions, Key, Store, hex_digest};
