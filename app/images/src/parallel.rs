//! Some jobs, a few at a time; the first failure stops all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{ImageError, Result};

/// Set once a job has failed: the others end as soon as they look.
pub(crate) type Stop = AtomicBool;

/// Does jobs 0 to `count` by at most `threads` threads; their results in order.
pub(crate) fn each<T: Send>(
    count: usize,
    threads: usize,
    job: impl Fn(usize, &Stop) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let (stop, next) = (Stop::new(false), AtomicUsize::new(0));
    let done: Mutex<Vec<Option<T>>> = Mutex::new((0..count).map(|_| None).collect());
    let failure: Mutex<Option<ImageError>> = Mutex::new(None);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count {
                return;
            }
            match job(n, &stop) {
                Ok(result) => lock(&done)[n] = Some(result),
                Err(error) => {
                    // What fails because we stopped is not the reason.
                    if !stop.swap(true, Ordering::Relaxed) {
                        *lock(&failure) = Some(error);
                    }
                }
            }
        }
    };
    match count.min(threads) {
        0 => {}
        1 => work(),
        threads => std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work)))),
    }
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_jobs() {
        assert_eq!(each(20, 3, |n, _| Ok(n * 2)).unwrap(), (0..20).map(|n| n * 2).collect::<Vec<_>>());
        assert_eq!(each(0, 3, |n, _| Ok(n)).unwrap(), [0_usize; 0]);
    }

    #[test]
    fn the_first_failure_is_told_and_ends_the_rest() {
        let failed = each(1000, 2, |n, stop| match (n, stop.load(Ordering::Relaxed)) {
            (_, true) => Err(ImageError::Content("stopped".to_owned())),
            (3, _) => Err(ImageError::Content("three".to_owned())),
            _ => Ok(()),
        });
        assert_eq!(failed.unwrap_err().to_string(), "three");
    }
}
