//! Saved references: over connections, in a store, and after the process has died.

mod folder_store;
mod no_room;
mod restart;
mod saving;
