//! Waiting for a condition with a deadline.

use std::thread;
use std::time::{Duration, Instant};

use crate::Error;

/// Asks `ready` every few milliseconds until it yields something.
///
/// # Errors
/// [`Error::Timeout`], naming `what`, when `limit` has passed.
pub fn wait_until<T>(
    what: impl Into<String>,
    limit: Duration,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T, Error> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(value) = ready() {
            return Ok(value);
        }
        if start.elapsed() >= limit {
            return Err(Error::Timeout {
                what: what.into(),
                after: limit,
            });
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut asked = 0;
        let value = wait_until("third time", Duration::from_secs(5), || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn a_condition_that_stays_false_is_named() {
        let error = wait_until("never", Duration::from_millis(5), || None::<()>).unwrap_err();
        assert!(
            error.to_string().starts_with("never: not within"),
            "{error}"
        );
    }
}
