use std::pin::Pin;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::config::Upstream;

fn upstream(in_flight_max: usize) -> Upstream {
    Upstream {
        in_flight_max,
        ..Upstream::default()
    }
}

fn place(origin: usize, weight: u32) -> Place {
    let address = format!("127.0.0.{}:80", origin + 1);
    Place {
        origin,
        name: format!("origin-{origin}:80"),
        address: address.parse().unwrap(),
        check_at: address.parse().unwrap(),
        checks_private: false,
        weight,
    }
}

fn pool_of(weights: &[u32], upstream: &Upstream) -> Pool {
    let places = weights.iter().enumerate();
    let places = places.map(|(origin, weight)| place(origin, *weight));
    Pool::new(places.collect(), upstream, 7)
}

fn pool(weights: &[u32], in_flight_max: usize) -> Pool {
    pool_of(weights, &upstream(in_flight_max))
}

fn loads(pool: &Pool) -> Vec<usize> {
    pool.nodes().iter().map(|node| node.in_flight()).collect()
}

/// How often each node is picked, one request after the other.
fn picks(pool: &Pool, count: usize, now: Instant) -> Vec<usize> {
    let mut counts = vec![0; pool.nodes().len()];
    for _ in 0..count {
        counts[pool.pick(&[], now).unwrap().index()] += 1;
    }
    counts
}

const SECOND: Duration = Duration::from_secs(1);

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
fn equals_take_turns_by_their_weight_under_every_algorithm_that_is_not_random() {
    let now = Instant::now();
    for balance in [Algorithm::LeastConnections, Algorithm::RoundRobin] {
        let rules = Upstream {
            balance,
            ..upstream(100)
        };
        assert_eq!(picks(&pool_of(&[1, 1, 1], &rules), 6, now), [2, 2, 2]);
        assert_eq!(picks(&pool_of(&[1, 2, 3], &rules), 60, now), [10, 20, 30]);
    }
}

#[test]
fn two_choices_spread_by_weight_and_avoid_the_busy() {
    let rules = Upstream {
        balance: Algorithm::PowerOfTwo,
        ..upstream(1_000)
    };
    let now = Instant::now();
    let counts = picks(&pool_of(&[1, 3], &rules), 4_000, now);
    assert!((900..1_100).contains(&counts[0]), "{counts:?}");
    let pool = pool_of(&[1, 1, 1, 1], &rules);
    let _leases: Vec<_> = (0..400).map(|_| pool.pick(&[], now).unwrap()).collect();
    let loads = loads(&pool);
    assert!(
        loads.iter().all(|load| (95..=105).contains(load)),
        "{loads:?}"
    );
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
fn an_unreachable_node_is_passed_over_until_its_time_ends() {
    let pool = pool(&[1, 1], 100);
    let now = Instant::now();
    pool.note(&pool.nodes()[0], Outcome::Unreachable, now);
    assert_eq!(picks(&pool, 10, now), [0, 10]);
    assert!(picks(&pool, 20, now + SECOND)[0] > 0);
}

#[test]
fn a_node_that_comes_in_gets_its_share_little_by_little() {
    let rules = Upstream {
        slow_start: 10 * SECOND,
        ..upstream(100)
    };
    let pool = pool_of(&[1, 1], &rules);
    let now = Instant::now();
    let node = &pool.nodes()[0];
    node.set_healthy(false, now);
    node.set_healthy(true, now);
    let share = |after: u32| picks(&pool, 300, now + after * SECOND)[0];
    let shares = [share(0), share(3), share(6), share(10)];
    assert!((25..=30).contains(&shares[0]), "{shares:?}");
    assert!(shares.is_sorted(), "{shares:?}");
    assert!((145..=155).contains(&shares[3]), "{shares:?}");
}

#[test]
fn an_unhealthy_node_is_passed_over_but_all_are_used_when_none_is_healthy() {
    let pool = pool(&[1, 1], 100);
    let now = Instant::now();
    pool.nodes()[0].set_healthy(false, now);
    assert_eq!(picks(&pool, 10, now), [0, 10]);
    pool.nodes()[1].set_healthy(false, now);
    assert_eq!(picks(&pool, 10, now), [5, 5]);
}

#[test]
fn all_are_used_when_too_few_are_left() {
    let rules = Upstream {
        panic_percent: 50,
        ..upstream(100)
    };
    let pool = pool_of(&[1, 1, 1, 1], &rules);
    let now = Instant::now();
    for node in &pool.nodes()[..2] {
        node.set_healthy(false, now);
    }
    assert_eq!(
        picks(&pool, 8, now),
        [0, 0, 4, 4],
        "half of them are enough"
    );
    pool.nodes()[2].set_healthy(false, now);
    assert_eq!(picks(&pool, 8, now), [2, 2, 2, 2]);
}

#[test]
fn a_node_that_was_tried_is_not_tried_again() {
    let pool = pool(&[1, 1], 100);
    let now = Instant::now();
    let tried: Vec<_> = pool.nodes().iter().map(|node| node.id()).collect();
    assert_eq!(pool.pick(&tried[..1], now).unwrap().index(), 1);
    pool.nodes()[1].set_healthy(false, now);
    let last = pool.pick(&tried[..1], now).unwrap();
    assert_eq!(last.index(), 1, "an unhealthy one is better than none");
    assert_eq!(pool.pick(&tried, now).unwrap_err(), NoNode::Tried);
}

#[test]
fn a_drained_node_gets_nothing_new_not_even_when_no_other_serves() {
    let pool = pool(&[1, 1], 100);
    let now = Instant::now();
    let begun = pool.pick(&[], now).unwrap();
    let name = format!("origin-{}:80", begun.index());
    pool.drain(&name, now).unwrap();
    let mut expected = [10, 10];
    expected[begun.index()] = 0;
    assert_eq!(picks(&pool, 10, now), expected);
    assert_eq!(
        begun.node().in_flight(),
        1,
        "what has begun ends as it will"
    );
    pool.drain("127.0.0.1:80", now).unwrap();
    pool.drain("127.0.0.2:80", now).unwrap();
    assert_eq!(pool.pick(&[], now).unwrap_err(), NoNode::Drained);
    pool.enable(&name, now).unwrap();
    assert_eq!(pool.pick(&[], now).unwrap().index(), begun.index());
}

#[test]
fn weights_change_while_requests_run_and_orders_that_name_nothing_are_refused() {
    let pool = pool(&[1, 1], 100);
    let now = Instant::now();
    pool.set_weight("origin-1:80", 3).unwrap();
    assert_eq!(picks(&pool, 40, now), [10, 30]);
    for weight in [0, WEIGHT_MAX + 1] {
        assert_eq!(
            pool.set_weight("origin-1:80", weight),
            Err(BadOrder::Weight)
        );
    }
    let unknown = BadOrder::Unknown("origin-9:80".to_owned());
    assert_eq!(pool.drain("origin-9:80", now), Err(unknown.clone()));
    assert_eq!(pool.enable("origin-9:80", now), Err(unknown.clone()));
    assert_eq!(pool.set_weight("origin-9:80", 1), Err(unknown));
}

#[test]
fn a_name_that_moves_keeps_the_nodes_that_stay_and_their_counts() {
    let pool = pool(&[1, 1], 100);
    let now = Instant::now();
    let begun = pool.pick(&[], now).unwrap();
    let origin = begun.index();
    let kept = place(origin, 1);
    let moved = Place {
        address: "10.0.0.9:80".parse().unwrap(),
        ..kept.clone()
    };
    pool.set_places_of(origin, vec![kept.clone(), moved.clone()], now);
    assert_eq!(pool.nodes().len(), 3);
    assert_eq!(loads(&pool).iter().sum::<usize>(), 1);
    pool.set_places_of(origin, vec![moved], now);
    assert!(begun.node().is_gone());
    assert_eq!(loads(&pool), [0, 0]);
    assert_eq!(begun.node().in_flight(), 1);
    pool.set_places_of(origin, Vec::new(), now);
    assert_eq!(pool.nodes().len(), 2, "no address at all changes nothing");
    let origins: Vec<_> = pool.nodes().iter().map(|node| node.origin()).collect();
    assert_eq!(origins, [0, 1]);
}

#[test]
fn other_places_are_used_at_once_and_weights_follow_the_configuration() {
    let pool = pool(&[1, 1], 100);
    let now = Instant::now();
    let first = pool.nodes()[0].id();
    pool.set_places(vec![place(0, 4), place(5, 1)], now);
    assert_eq!(pool.nodes()[0].id(), first);
    let later = now + 60 * SECOND;
    assert_eq!(pool.pick(&[], later).unwrap().index(), 0);
    let statuses = pool.node_statuses(now).into_iter();
    let weights: Vec<_> = statuses.map(|node| node.weight).collect();
    assert_eq!(weights, [4, 1]);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_gets_the_next_place_the_first_one_first() {
    let pool = Arc::new(pool(&[1], 1));
    let now = Instant::now();
    let held = pool.lease(&[], now).await.unwrap();
    let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for number in 0..5 {
        let (waiter, served) = (Arc::clone(&pool), Arc::clone(&order));
        waiting.push(tokio::spawn(async move {
            let lease = waiter.lease(&[], now).await.unwrap();
            served.lock().push(number);
            drop(lease);
        }));
        while pool.status().waiting <= number {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(loads(&pool), [1]);
    drop(held);
    for one in waiting {
        one.await.unwrap();
    }
    assert_eq!(*order.lock(), [0, 1, 2, 3, 4]);
    assert_eq!((loads(&pool), pool.status().waiting), (vec![0], 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_said_and_no_more_than_said() {
    let rules = Upstream {
        queue_max: 2,
        ..upstream(1)
    };
    let pool = pool_of(&[1], &rules);
    let now = Instant::now();
    let held = pool.lease(&[], now).await.unwrap();
    let began = tokio::time::Instant::now();
    let (first, second, third) = tokio::join!(pool.lease(&[], now), pool.lease(&[], now), async {
        let refused = pool.lease(&[], now).await;
        (refused, began.elapsed())
    });
    assert_eq!(began.elapsed(), rules.queue_wait);
    assert_eq!(
        (first.err(), second.err()),
        (Some(NoNode::Full), Some(NoNode::Full))
    );
    assert_eq!(
        (third.0.err(), third.1),
        (Some(NoNode::Full), Duration::ZERO)
    );
    drop(held);
    assert_eq!(pool.status().waiting, 0);
    assert!(pool.lease(&[], now).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_another_node_does_not_get_the_one_it_has_tried() {
    let pool = pool(&[1, 1], 1);
    let now = Instant::now();
    let (one, two) = (
        pool.lease(&[], now).await.unwrap(),
        pool.lease(&[], now).await.unwrap(),
    );
    let tried = [one.node().id()];
    let other = two.index();
    let (got, ()) = tokio::join!(pool.lease(&tried, now), async {
        drop(one);
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(two);
    });
    assert_eq!(got.unwrap().index(), other);
    assert_eq!(loads(&pool), [0, 0]);
}

#[test]
fn further_attempts_end_with_the_budget() {
    let rules = Upstream {
        retry_percent: 20,
        ..upstream(4)
    };
    let pool = pool_of(&[1, 1], &rules);
    assert_eq!((0..10).filter(|_| pool.may_retry(&[], 3)).count(), 4);
    let tried: Vec<_> = pool.nodes().iter().map(|node| node.id()).collect();
    assert!(!pool.may_retry(&tried, 3), "no node is left");
    pool.drain(&pool.nodes()[1].address().to_string(), Instant::now())
        .unwrap();
    assert!(
        !pool.may_retry(&tried[..1], 3),
        "the other takes no requests"
    );
    let status = pool.status();
    assert_eq!((status.retries, status.retries_refused), (4, 6));
}

#[derive(Debug, Clone)]
enum Step {
    Pick,
    Wait,
    End(usize),
    Abandon(usize),
    Health(usize, bool),
    Note(usize),
    Drain(usize, bool),
    Move(usize),
}

type Wait = Pin<Box<dyn Future<Output = Result<Lease, NoNode>>>>;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Pick),
        3 => Just(Step::Wait),
        4 => any::<usize>().prop_map(Step::End),
        2 => any::<usize>().prop_map(Step::Abandon),
        1 => (0..3_usize, any::<bool>()).prop_map(|(node, is)| Step::Health(node, is)),
        1 => (0..3_usize).prop_map(Step::Note),
        1 => (0..3_usize, any::<bool>()).prop_map(|(node, is)| Step::Drain(node, is)),
        1 => (0..3_usize).prop_map(Step::Move),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    /// Whatever happens in whatever order: no node holds more than it may, nobody waits beside a free place of its own, and
    /// when all have ended nothing is counted.
    #[test]
    fn no_place_is_lost_or_given_twice(steps in steps()) {
        const MAX: usize = 2;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let pool = Arc::new(pool(&[1, 2, 1], MAX));
            let mut now = Instant::now();
            let mut seen: Vec<Arc<Node>> = pool.nodes().to_vec();
            let mut leases: Vec<Lease> = Vec::new();
            let mut waiting: Vec<Wait> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                now += Duration::from_millis(50);
                match step {
                    Step::Pick => leases.extend(pool.pick(&[], now)),
                    Step::Wait => {
                        let pool = Arc::clone(&pool);
                        let mut wait: Wait = Box::pin(async move { pool.lease(&[], now).await });
                        match wait.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop())) {
                            Poll::Ready(done) => leases.extend(done),
                            Poll::Pending => waiting.push(wait),
                        }
                    }
                    Step::End(at) if !leases.is_empty() => drop(leases.swap_remove(at % leases.len())),
                    Step::Abandon(at) if !waiting.is_empty() => drop(waiting.swap_remove(at % waiting.len())),
                    Step::End(_) | Step::Abandon(_) => {}
                    Step::Health(at, is) => pool.nodes()[at].set_healthy(is, now),
                    Step::Note(at) => pool.note(&pool.nodes()[at], Outcome::Unreachable, now),
                    Step::Drain(at, is) => {
                        let name = format!("origin-{at}:80");
                        if is { pool.drain(&name, now).unwrap() } else { pool.enable(&name, now).unwrap() }
                    }
                    Step::Move(at) => {
                        let address = format!("10.0.{}.{}:80", number / 250, number % 250 + 1).parse().unwrap();
                        pool.set_places_of(at, vec![Place { address, ..place(at, 1) }], now);
                        seen.extend(pool.nodes().iter().cloned());
                    }
                }
                for node in &seen {
                    prop_assert!(node.in_flight() <= MAX);
                }
            }
            // Those who wait get what the others leave, or the end of their time.
            drop(leases);
            for wait in waiting {
                drop(wait.await);
            }
            for node in &seen {
                prop_assert_eq!(node.in_flight(), 0);
            }
            prop_assert_eq!(pool.status().waiting, 0);
            Ok(())
        })?;
    }
}

#[test]
fn a_list_that_shifts_forgets_no_drain_and_no_count() {
    let pool = pool(&[1, 1, 1], 100);
    let now = Instant::now();
    pool.drain("origin-1:80", now).unwrap();
    let begun: Vec<_> = (0..4).map(|_| pool.pick(&[], now).unwrap()).collect();
    let shifted = |origin: usize| Place {
        origin: origin - 1,
        ..place(origin, 1)
    };
    pool.set_places(vec![shifted(1), shifted(2)], now);
    let [drained, open] = &pool.nodes()[..] else {
        panic!("two nodes")
    };
    assert!(drained.is_drained() && !open.is_drained());
    assert_eq!(loads(&pool), [0, 2]);
    assert_eq!([drained.origin(), open.origin()], [0, 1]);
    // A look-up of the second origin, which was the third, changes that one.
    let moved = Place {
        address: "10.0.0.9:80".parse().unwrap(),
        ..shifted(2)
    };
    pool.set_places_of(1, vec![moved.clone()], now);
    let nodes = pool.nodes();
    assert!(nodes[0].is_drained());
    assert_eq!(nodes[1].address(), moved.address);
    // Another private listener makes another node of it, as drained as before.
    let checked = Place {
        check_at: "10.0.0.8:80".parse().unwrap(),
        ..shifted(1)
    };
    pool.set_places(vec![checked], now);
    assert!(pool.nodes()[0].is_drained());
    drop(begun);
}

#[test]
fn where_checks_meet_nobody_no_request_waits() {
    let pool = pool(&[1, 1, 1], 100);
    let now = Instant::now();
    let vanish = |at: usize| {
        pool.nodes()[at].set_absent(true);
        pool.nodes()[at].set_healthy(false, now);
    };
    vanish(0);
    vanish(1);
    // Too few are left to pass the others over for their health alone, but nobody is there.
    assert_eq!(picks(&pool, 9, now), [0, 0, 9]);
    vanish(2);
    assert_eq!(pool.pick(&[], now).unwrap_err(), NoNode::Absent);
    pool.nodes()[1].set_absent(false); // there, and not well
    assert_eq!(picks(&pool, 3, now), [0, 3, 0]);
}

#[test]
fn retries_stay_counted_when_the_settings_change() {
    let pool = pool(&[1, 1], 100);
    let tried = [pool.pick(&[], Instant::now()).unwrap().node().id()];
    assert!(pool.may_retry(&tried, 3));
    pool.configure(&upstream(50));
    assert_eq!(pool.status().retries, 1);
}
