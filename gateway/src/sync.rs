//! The lock and the counter that purges and fills share.
//!
//! In tests every use of them is a point at which a deterministic scheduler may let another thread go on, so that a test can
//! walk through the orders in which purges and fills can meet.

#[cfg(not(test))]
pub(crate) use std::sync::atomic::AtomicU64;

#[cfg(not(test))]
pub(crate) use parking_lot::Mutex;

#[cfg(test)]
pub(crate) use scheduled::{AtomicU64, Mutex, explore};

#[cfg(test)]
mod scheduled {
    use std::cell::Cell;
    use std::sync::atomic::Ordering;

    thread_local! {
        /// The scheduler runs all its threads on one thread of the system: this one, while it explores.
        static EXPLORING: Cell<bool> = const { Cell::new(false) };
    }

    fn point() {
        if EXPLORING.get() {
            shuttle::thread::yield_now();
        }
    }

    /// Runs one exploration; outside of it nothing is scheduled.
    pub(crate) fn explore(exploration: impl FnOnce()) {
        struct End;
        impl Drop for End {
            fn drop(&mut self) {
                EXPLORING.set(false);
            }
        }
        EXPLORING.set(true);
        let _end = End;
        exploration();
    }

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(parking_lot::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, T> {
            if !EXPLORING.get() {
                return self.0.lock();
            }
            loop {
                point();
                if let Some(guard) = self.0.try_lock() {
                    return guard;
                }
            }
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct AtomicU64(std::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub(crate) fn new(value: u64) -> Self {
            Self(std::sync::atomic::AtomicU64::new(value))
        }

        pub(crate) fn load(&self, order: Ordering) -> u64 {
            point();
            self.0.load(order)
        }

        pub(crate) fn store(&self, value: u64, order: Ordering) {
            point();
            self.0.store(value, order);
        }

        pub(crate) fn compare_exchange(
            &self,
            was: u64,
            value: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            point();
            self.0.compare_exchange(was, value, success, failure)
        }

        pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
            point();
            self.0.fetch_add(value, order)
        }

        pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
            point();
            self.0.fetch_max(value, order)
        }
    }
}
