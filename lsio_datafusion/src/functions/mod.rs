//! Functions that a session is taught.

pub(crate) mod time;
