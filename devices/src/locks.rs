//! Locks, also those that a thread has panicked with: what it has left is used as it is, so that the run
//! can come to its end. What is locked is not known here.

use std::sync::{Mutex, MutexGuard, PoisonError};
#[cfg(feature = "qcow2")]
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Locks `mutex`, whether or not a thread has panicked with it.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks `lock` with others who read.
#[cfg(feature = "qcow2")]
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks `lock` alone.
#[cfg(feature = "qcow2")]
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
