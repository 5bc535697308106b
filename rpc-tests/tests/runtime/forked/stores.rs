//! Stores of saved references in forked children.

use std::io::Read;
use std::os::unix::net::UnixStream;

use capnp_threads_persist::FolderStore;
use rpc_tests::support::alone;

use super::Child;

#[test]
fn a_child_neither_keeps_its_parents_store_nor_gives_it_up() {
    if !alone("forked::stores::a_child_neither_keeps_its_parents_store_nor_gives_it_up") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut store = Some(FolderStore::open(folder.path()).unwrap());
    Child::start(|| {
        drop(store.take());
        true
    })
    .succeeds();
    FolderStore::open(folder.path()).expect_err("the parent still uses it");

    // A child that has a copy of everything, until it is killed.
    let (_here, mut there) = UnixStream::pair().unwrap();
    let child = Child::start(|| there.read(&mut [0]).is_ok());
    drop(store);
    FolderStore::open(folder.path()).expect("the parent has given it up");
    drop(child);
}
