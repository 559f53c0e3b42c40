//! Locks, also those that a thread has panicked with: what it has left is used as it is, so that the run
//! can come to its end. What is locked is not known here.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
