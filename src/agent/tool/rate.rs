//! How fast bytes may pass: a token bucket, kept as the moment at which all that has passed is paid for.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Time without traffic that may be made up for. It also evens out timers, which are as coarse as a millisecond.
const BURST: Duration = Duration::from_millis(100);
/// One portion of bytes lasts this long, or less: small enough to be smooth and to take turns.
const PORTIONS_PER_SECOND: u64 = 20;
const NANOSECONDS: u64 = 1_000_000_000;

/// A limit that all who pass bytes share.
#[derive(Debug)]
pub struct Rate {
    bytes_per_second: NonZeroU64,
    paid_until: Cell<Instant>,
}

impl Rate {
    /// A limit whose time begins now.
    pub fn new(bytes_per_second: NonZeroU64) -> Self {
        Self { bytes_per_second, paid_until: Cell::new(Instant::now()) }
    }

    /// The most bytes that may be passed at once, `at_most` or fewer; never 0 unless that is.
    pub fn portion(&self, at_most: usize) -> usize {
        let bytes = (self.bytes_per_second.get() / PORTIONS_PER_SECOND).max(1);
        usize::try_from(bytes).unwrap_or(usize::MAX).min(at_most)
    }

    /// Waits until `bytes` more may pass. Who asks first passes first.
    pub async fn pay(&self, bytes: usize) {
        let now = Instant::now();
        let from = now.checked_sub(BURST).map_or(self.paid_until.get(), |earliest| self.paid_until.get().max(earliest));
        let paid_until = from + self.cost(bytes);
        self.paid_until.set(paid_until);
        if paid_until > now {
            sleep_until(paid_until).await;
        }
    }

    fn cost(&self, bytes: usize) -> Duration {
        let nanoseconds = (bytes as u64).saturating_mul(NANOSECONDS) / self.bytes_per_second;
        Duration::from_nanos(nanoseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn rate(bytes_per_second: u64) -> Rate {
        Rate::new(NonZeroU64::new(bytes_per_second).unwrap())
    }

    /// Seconds that `bytes` take in portions.
    async fn seconds(rate: &Rate, bytes: u64) -> f64 {
        let (begin, mut left) = (Instant::now(), usize::try_from(bytes).unwrap());
        while left > 0 {
            let portion = rate.portion(64 << 10).min(left);
            rate.pay(portion).await;
            left -= portion;
        }
        begin.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_held_whatever_it_is() {
        for wanted in [1000, 256 << 10, MIB, 20 * MIB, 300 * MIB, 4096 * MIB] {
            let took = seconds(&rate(wanted), 2 * wanted).await;
            assert!((1.99..2.01).contains(&took), "{wanted}: {took}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_short_pause_is_made_up_for() {
        let rate = rate(MIB);
        for pause in [1, 3600] {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            let took = seconds(&rate, MIB).await;
            assert!((0.89..0.91).contains(&took), "{took}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_share_it_pass_in_turn() {
        let rate = rate(MIB);
        let passed = Cell::new([0_usize; 3]);
        let pass = async |who: usize| {
            loop {
                let portion = rate.portion(64 << 10);
                rate.pay(portion).await;
                let mut so_far = passed.get();
                so_far[who] += portion;
                passed.set(so_far);
            }
        };
        let all = async { tokio::join!(pass(0), pass(1), pass(2)) };
        tokio::time::timeout(Duration::from_secs(30), all).await.unwrap_err();
        for one in passed.get() {
            assert!((9_900_000..=11_000_000).contains(&one), "{:?}", passed.get());
        }
    }

    #[test]
    fn a_portion_is_never_nothing() {
        assert_eq!(rate(1).portion(100), 1);
        assert_eq!(rate(MIB).portion(64 << 10), 52_428);
        assert_eq!(rate(u64::MAX).portion(64 << 10), 64 << 10);
    }
}
