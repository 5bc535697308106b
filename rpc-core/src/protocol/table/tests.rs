//! Tests of tables and of pools of ids.

use super::*;

#[test]
fn a_table_gives_the_memory_of_its_peak_back() {
    let table = Table::<_, _>::new();
    for key in 0..10_000_u32 {
        table.insert(key, [key; 8]);
    }
    assert!(table.capacity() >= 10_000);
    for key in 1..10_000 {
        table.remove(key);
    }
    assert!(table.capacity() <= KEPT, "{}", table.capacity());
    assert!(table.contains(0));
    assert_eq!(table.take_all().len(), 1);
    assert_eq!(table.capacity(), 0);
}

#[test]
fn the_lowest_free_id_is_used_first() {
    let mut pool = IdPool::default();
    let taken: Vec<_> = (0..6).map_while(|_| pool.allocate()).collect();
    assert_eq!(taken, [0, 1, 2, 3, 4, 5]);
    for id in [3, 1, 4] {
        pool.release(id);
    }
    assert_eq!(pool.in_use(), 3);
    let taken: Vec<_> = (0..4).map_while(|_| pool.allocate()).collect();
    assert_eq!(taken, [1, 3, 4, 6]);
}

#[test]
fn every_id_is_handed_out_once_and_the_lowest_first() {
    let mut pool = IdPool::default();
    let mut free: std::collections::BTreeSet<u32> = (0..200).collect();
    let mut used = Vec::new();
    let mut state = 1_u64;
    for _ in 0..100_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let random = (state >> 33) as usize;
        if used.len() < 100 && random.is_multiple_of(2) {
            let id = pool.allocate();
            assert_eq!(id, free.pop_first());
            used.extend(id);
        } else if !used.is_empty() {
            let id = used.swap_remove(random / 2 % used.len());
            pool.release(id);
            assert!(free.insert(id));
        }
        assert_eq!(pool.in_use(), used.len());
        assert!(pool.free.len() <= used.len());
        assert_eq!(pool.next, used.iter().max().map_or(0, |id| id + 1));
    }
}

#[test]
fn ids_that_are_free_need_no_memory() {
    let mut pool = IdPool::default();
    let taken: Vec<_> = (0..10_000).filter_map(|_| pool.allocate()).collect();
    // The last id stays in use for long.
    taken.into_iter().take(9_999).for_each(|id| pool.release(id));
    assert_eq!((pool.free.len(), pool.in_use()), (1, 1));
    assert_eq!(pool.allocate(), Some(0));
}
