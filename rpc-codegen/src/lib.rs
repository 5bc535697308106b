//! Generates Send + Sync clients and blocking servers from Cap'n Proto schemas.
