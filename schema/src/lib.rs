//! Generated code of this workspace's schemas.
