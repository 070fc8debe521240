//! The order of an epoch, without a list of it: a Feistel network over Philox on the next larger
//! power of four, walked on until it comes out within the epoch (Black and Rogaway, "Ciphers with
//! arbitrary finite domains", 2002).
//!
//! A list of numbers, shuffled, would take 8 bytes a sample on every node that reads data, and a
//! walk over all of them at the start of each epoch. This takes nothing, and less than four walks
//! of eight Philox blocks for a sample: a microsecond where reading the sample takes more.

use brigade_layer::Random;

/// Few halves have few bits, so there are more rounds than large ones would need.
const ROUNDS: u32 = 8;

/// The orders of all epochs of so many samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shuffle {
    random: Random,
    len: u64,
    /// Bits of each half of a number.
    half: u32,
}

impl Shuffle {
    pub(super) fn new(seed: u64, len: u64) -> Self {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        Self {
            random: Random::named(seed, "order of samples"),
            len,
            half: bits.div_ceil(2).max(1),
        }
    }

    /// Which sample has place `at` in an epoch.
    pub(super) fn sample(&self, epoch: u64, at: u64) -> u64 {
        let mut number = at;
        // What starts within the epoch comes back into it, at the latest where it started.
        loop {
            number = self.permuted(epoch, number);
            if number < self.len {
                return number;
            }
        }
    }

    /// A permutation of all numbers of twice `half` bits.
    fn permuted(&self, epoch: u64, number: u64) -> u64 {
        let mask = (1u64 << self.half) - 1;
        let (mut left, mut right) = (number >> self.half, number & mask);
        for round in 0..ROUNDS {
            let [word, ..] = self.random.words(epoch, round, right as u32);
            (left, right) = (right, left ^ (u64::from(word) & mask));
        }
        left << self.half | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_is_a_permutation_and_no_two_are_alike() {
        for len in [1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4097] {
            let shuffle = Shuffle::new(3, len);
            let epoch = |epoch| (0..len).map(move |at| shuffle.sample(epoch, at));
            for number in [0, 1, 2, u64::MAX] {
                let mut all: Vec<_> = epoch(number).collect();
                all.sort_unstable();
                assert!(all.into_iter().eq(0..len), "{len} in epoch {number}");
            }
            if len > 20 {
                assert!(!epoch(0).eq(epoch(1)) && !epoch(0).eq(0..len), "{len}");
                let other = Shuffle::new(4, len);
                assert!(
                    !epoch(0).eq((0..len).map(|at| other.sample(0, at))),
                    "{len}"
                );
            }
        }
    }

    /// Over many epochs every sample comes to every place about equally often, and the sample after
    /// it is any other.
    #[test]
    fn orders_are_as_random_ones() {
        const EPOCHS: u64 = 20_000;
        for len in [5u64, 7, 12] {
            let shuffle = Shuffle::new(1, len);
            let mut places = vec![0u32; (len * len) as usize];
            let mut pairs = places.clone();
            for epoch in 0..EPOCHS {
                let order: Vec<_> = (0..len).map(|at| shuffle.sample(epoch, at)).collect();
                for (at, sample) in order.iter().enumerate() {
                    places[at * len as usize + *sample as usize] += 1;
                }
                for pair in order.windows(2) {
                    pairs[(pair[0] * len + pair[1]) as usize] += 1;
                }
            }
            let even = |counts: &[u32], cells: u64, draws: u64| {
                assert_eq!(
                    counts.iter().filter(|count| **count > 0).count() as u64,
                    cells
                );
                let (cells, draws) = (cells as f64, draws as f64);
                let expected = draws / cells;
                let deviation = |count: &u32| (f64::from(*count) - expected).powi(2) / expected;
                let chi: f64 = counts
                    .iter()
                    .filter(|count| **count > 0)
                    .map(deviation)
                    .sum();
                // Mean `cells`, deviation sqrt(2 cells).
                assert!(
                    chi < cells + 6.0 * (2.0 * cells).sqrt(),
                    "{len}: {counts:?}"
                );
            };
            even(&places, len * len, EPOCHS * len);
            even(&pairs, len * (len - 1), EPOCHS * (len - 1));
        }
    }
}
