//! Tests of tables.

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

/// A peer chooses ids as it likes.
#[test]
fn keys_that_lie_far_apart_make_no_long_list() {
    let table = Table::<_, _>::new();
    let keys = (0..1000_u32).map(|number| number * 4_000_000);
    for key in keys.clone() {
        assert_eq!(table.insert_new(key, key), None);
    }
    assert!(table.near.lock().places.len() <= SLACK, "{}", table.near.lock().places.len());
    assert_eq!(table.len(), 1000);
    for key in keys {
        assert_eq!(table.insert_new(key, 1), Some(1), "{key} is there");
        assert_eq!(table.with(key, |entry| *entry), Some(key));
        assert_eq!(table.remove(key), Some(key));
    }
    assert!(table.is_empty() && !table.has_far());
}

/// The list grows past keys that were too far out for it.
#[test]
fn a_table_is_like_a_map_whatever_its_keys_are() {
    let (table, mut map) = (Table::<_, _>::new(), std::collections::BTreeMap::new());
    let mut state = 1_u64;
    let mut far = 0;
    for step in 0..100_000_u32 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let random = (state >> 33) as u32;
        // Sometimes there are few of them, and sometimes many.
        let most = [8, 100, 1000][step as usize / 7_000 % 3];
        let key = random / 4 % most;
        match random % 4 {
            0 => assert_eq!(table.insert(key, step), map.insert(key, step)),
            1 => {
                let there = map.contains_key(&key);
                assert_eq!(table.insert_new(key, step), there.then_some(step));
                map.entry(key).or_insert(step);
            }
            2 => assert_eq!(table.remove_if(key, |entry| entry % 2 == 0), {
                let even = map.get(&key).is_some_and(|entry| entry % 2 == 0);
                if even { map.remove(&key) } else { None }
            }),
            _ => assert_eq!(table.remove(key), map.remove(&key)),
        }
        assert_eq!(table.with(key, |entry| *entry), map.get(&key).copied());
        assert_eq!(table.len(), map.len());
        far += u32::from(table.has_far());
        if step % 1000 == 0 {
            let mut all = Vec::new();
            table.for_each(|key, entry| all.push((key, *entry)));
            all.sort_unstable();
            assert!(all.into_iter().eq(map.iter().map(|(key, entry)| (*key, *entry))));
        }
    }
    assert!(far > 1000, "few of them were in the map: {far}");
    assert!(table.take_all().into_iter().eq(map));
}
