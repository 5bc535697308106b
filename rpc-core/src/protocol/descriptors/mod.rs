//! Capabilities in messages.

pub(super) mod exporting;
mod importing;
pub(super) mod view;
