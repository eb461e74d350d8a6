//! Requests that wait for a place while every node is full: few, not for long, the first one first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::node::{Lease, Node, NodeId};

/// The line of those who wait. A place that comes free is handed to the first who can use it.
#[derive(Debug, Default)]
pub(super) struct Queue {
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Entry>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Entry {
    ticket: u64,
    tried: Box<[NodeId]>,
    place: oneshot::Sender<Lease>,
}

/// A place in the line; left when dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    ticket: u64,
    place: oneshot::Receiver<Lease>,
    queue: Arc<Queue>,
}

/// What came of standing in line.
pub(super) enum Entered {
    /// A place came free in the meantime.
    Served(Lease),
    /// The line was joined at its end.
    Waiting(Waiting),
    /// The line is full.
    Full,
}

impl Queue {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.line.lock().waiting.len()
    }

    /// Joins the line of at most `length_max`, unless `pick` finds a place after all: places come free under the line's lock, so none is missed
    /// between the look and the wait.
    pub(super) fn enter(
        self: &Arc<Self>,
        tried: &[NodeId],
        length_max: usize,
        pick: impl FnOnce() -> Option<Lease>,
    ) -> Entered {
        let mut line = self.line.lock();
        if let Some(lease) = pick() {
            return Entered::Served(lease);
        }
        if line.waiting.len() >= length_max {
            return Entered::Full;
        }
        let (sender, place) = oneshot::channel();
        let ticket = line.next_ticket;
        line.next_ticket += 1;
        line.waiting.push_back(Entry {
            ticket,
            tried: tried.into(),
            place: sender,
        });
        Entered::Waiting(Waiting {
            ticket,
            place,
            queue: Arc::clone(self),
        })
    }

    /// A request has left its place at a node: the first who waits and has not tried that node takes it over, else it is
    /// free.
    pub(super) fn leave(self: &Arc<Self>, node: &Arc<Node>) {
        let mut line = self.line.lock();
        while let Some(at) = line.first_for(node) {
            let Some(entry) = line.waiting.remove(at) else {
                break;
            };
            let lease = Lease::taken_over(node, self);
            match entry.place.send(lease) {
                Ok(()) => return,
                Err(lease) => lease.forget(), // gone while the place was on its way
            }
        }
        node.free_place();
    }

    fn give_up(&self, ticket: u64) {
        let waiting = &mut self.line.lock().waiting;
        // Tickets ascend along the line.
        if let Ok(at) = waiting.binary_search_by_key(&ticket, |entry| entry.ticket) {
            waiting.remove(at);
        }
    }
}

impl Line {
    fn first_for(&self, node: &Node) -> Option<usize> {
        if !node.takes_over() {
            return None;
        }
        let mut waiting = self.waiting.iter();
        waiting.position(|entry| !entry.tried.contains(&node.id()))
    }
}

impl Waiting {
    /// The place, if one comes free within this time.
    pub(super) async fn within(mut self, limit: Duration) -> Option<Lease> {
        match tokio::time::timeout(limit, &mut self.place).await {
            Ok(lease) => lease.ok(),
            // It may have come in the last moment.
            Err(_) => self.place.try_recv().ok(),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.queue.give_up(self.ticket);
    }
}
