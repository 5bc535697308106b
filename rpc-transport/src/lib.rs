//! Blocking transports for thread-native Cap'n Proto RPC.
