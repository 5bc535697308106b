//! Tests of pools of ids.

use super::*;

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
    }
}

/// Many more than one word, and than one level, tells of.
#[test]
fn the_lowest_of_many_is_found() {
    let mut pool = IdPool::default();
    const MANY: u32 = 300_000;
    let taken: Vec<_> = (0..MANY).map_while(|_| pool.allocate()).collect();
    assert_eq!(taken.len(), MANY as usize);
    // Some of each word, from above, and all but one of the words in the middle.
    let free: Vec<_> = (0..MANY - 1)
        .rev()
        .filter(|id| id % 1000 == 7 || (100_000..200_000).contains(id) && *id != 150_000)
        .collect();
    free.iter().for_each(|id| pool.release(*id));
    assert_eq!(pool.in_use(), MANY as usize - free.len());
    for id in free.iter().rev() {
        assert_eq!(pool.allocate(), Some(*id));
    }
    assert_eq!(pool.allocate(), Some(MANY));
}

#[test]
fn a_pool_of_which_nothing_is_used_needs_no_memory() {
    let mut pool = IdPool::default();
    let taken: Vec<_> = (0..10_000).filter_map(|_| pool.allocate()).collect();
    taken.into_iter().for_each(|id| pool.release(id));
    assert!(pool.levels.is_empty());
    assert_eq!((pool.in_use(), pool.allocate()), (0, Some(0)));
}
