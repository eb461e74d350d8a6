use std::time::{Duration, Instant};

use super::*;

fn pool(weights: &[u32], in_flight_max: usize) -> Pool {
    let nodes = (1..)
        .zip(weights)
        .map(|(n, weight)| Node::new(format!("127.0.0.{n}:80"), *weight));
    Pool::new(nodes.collect(), in_flight_max)
}

fn loads(pool: &Pool) -> Vec<usize> {
    pool.nodes().iter().map(|node| node.in_flight()).collect()
}

#[test]
fn requests_in_flight_stay_even_and_end_with_their_lease() {
    let pool = pool(&[1, 1, 1], 100);
    let now = Instant::now();
    let mut leases: Vec<Lease> = (0..30).map(|_| pool.pick(&[], now).unwrap()).collect();
    assert_eq!(loads(&pool), [10, 10, 10]);
    leases.retain(|lease| lease.index() != 1);
    assert_eq!(loads(&pool), [10, 0, 10]);
    let next: Vec<_> = (0..10).map(|_| pool.pick(&[], now).unwrap()).collect();
    assert!(
        next.iter().all(|lease| lease.index() == 1),
        "the node with the fewest takes them all"
    );
    drop((leases, next));
    assert_eq!(loads(&pool), [0, 0, 0]);
}

#[test]
fn equals_take_turns() {
    let pool = pool(&[1, 1, 1], 100);
    let now = Instant::now();
    let picked: Vec<usize> = (0..6)
        .map(|_| pool.pick(&[], now).unwrap().index())
        .collect();
    let mut sorted = picked.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [0, 0, 1, 1, 2, 2], "{picked:?}");
}

#[test]
fn a_node_of_twice_the_weight_holds_twice_the_requests() {
    let pool = pool(&[1, 2], 100);
    let now = Instant::now();
    let leases: Vec<_> = (0..30).map(|_| pool.pick(&[], now).unwrap()).collect();
    assert_eq!(loads(&pool), [10, 20]);
    drop(leases);
}

#[test]
fn an_ejected_node_is_passed_over_until_its_time_ends() {
    let pool = pool(&[1, 1], 100);
    let now = Instant::now();
    pool.eject(0, now);
    assert!((0..10).all(|_| pool.pick(&[], now).unwrap().index() == 1));
    let later = now + EJECTION + Duration::from_millis(1);
    assert!((0..10).any(|_| pool.pick(&[], later).unwrap().index() == 0));
}

#[test]
fn an_unhealthy_node_is_passed_over_but_all_are_tried_when_none_is_healthy() {
    let pool = pool(&[1, 1], 100);
    let now = Instant::now();
    pool.nodes()[0].set_healthy(false);
    assert!((0..10).all(|_| pool.pick(&[], now).unwrap().index() == 1));
    pool.nodes()[1].set_healthy(false);
    let picked: Vec<_> = (0..10)
        .map(|_| pool.pick(&[], now).unwrap().index())
        .collect();
    assert!(picked.contains(&0) && picked.contains(&1));
}

#[test]
fn a_node_that_was_tried_is_not_tried_again() {
    let pool = pool(&[1, 1], 100);
    let now = Instant::now();
    assert_eq!(pool.pick(&[0], now).unwrap().index(), 1);
    assert_eq!(pool.pick(&[0, 1], now).unwrap_err(), NoNode::Tried);
}

#[test]
fn a_full_pool_refuses_at_once() {
    let pool = pool(&[1, 1], 2);
    let now = Instant::now();
    let leases: Vec<_> = (0..4).map(|_| pool.pick(&[], now).unwrap()).collect();
    assert_eq!(pool.pick(&[], now).unwrap_err(), NoNode::Full);
    drop(leases);
    assert!(pool.pick(&[], now).is_ok());
}
