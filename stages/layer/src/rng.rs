//! Random numbers that depend on names, never on who asks or in which order.
//!
//! Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC
//! 2011): a block cipher from a counter to four words, so that any number of the sequence can be
//! had directly.

use crate::StepId;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// One block of Philox4x32-10: four random words for a counter under a key.
#[inline]
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let left = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let right = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (right >> 32) as u32 ^ counter[1] ^ key[0],
            right as u32,
            (left >> 32) as u32 ^ counter[3] ^ key[1],
            left as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// The finaliser of splitmix64: spreads the bits of a number over all 64.
pub(crate) fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn words(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

/// Random numbers of one layer in one step, keyed by (seed, step, sample in the mini-batch, layer,
/// draw).
#[derive(Clone, Copy, Debug)]
pub struct Random {
    key: [u32; 2],
    step: [u32; 2],
}

impl Random {
    pub(crate) fn of_layer(seed: u64, step: StepId, layer: u64, part: u64) -> Self {
        Self {
            key: words(mix(mix(mix(seed) ^ layer) ^ part)),
            step: words(step.get()),
        }
    }

    /// Random numbers for anything that has a name: initial values, the order of data.
    pub fn named(seed: u64, name: &str) -> Self {
        // FNV-1a: the name is short, known to everyone, and not chosen by an adversary.
        let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        Self {
            key: words(mix(mix(seed) ^ hash)),
            step: [0, 0],
        }
    }

    /// Four words: number `block` of the draw `draw` of sample `sample`.
    ///
    /// A layer that draws several times for one sample gives each draw a number of its own, below
    /// 65,536.
    #[inline]
    pub fn words(&self, sample: u64, draw: u32, block: u32) -> [u32; 4] {
        let high = (self.step[1] ^ (draw << 16)).wrapping_add((sample >> 32) as u32);
        philox([block, sample as u32, self.step[0], high], self.key)
    }

    /// A number below `bound`, nearly uniform (bias below `bound` / 2^64). 0 when `bound` is 0.
    pub fn below(&self, sample: u64, draw: u32, bound: u64) -> u64 {
        let [low, high, ..] = self.words(sample, draw, 0);
        let wide = u128::from(u64::from(high) << 32 | u64::from(low)) * u128::from(bound);
        (wide >> 64) as u64
    }
}

/// A uniform number in [0, 1) from a word, with 24 bits.
#[inline]
pub fn unit_f32(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
}

/// Fills `values` with numbers uniform in [-bound, bound).
pub(crate) fn fill_uniform(random: &Random, bound: f32, values: &mut [f32]) {
    for (block, four) in values.chunks_mut(4).enumerate() {
        let drawn = random.words(block as u64 >> 32, 0, block as u32);
        for (value, word) in four.iter_mut().zip(drawn) {
            *value = (unit_f32(word) * 2.0 - 1.0) * bound;
        }
    }
}

/// Fills `values` with normal numbers of mean 0 (Box and Muller 1958), two for every two words.
///
/// `libm` is compiled into the program, so that the values do not depend on the host's mathematics
/// library.
pub(crate) fn fill_normal(random: &Random, deviation: f32, values: &mut [f32]) {
    let scale = f64::from(deviation);
    for (block, four) in values.chunks_mut(4).enumerate() {
        let drawn = random.words(block as u64 >> 32, 0, block as u32);
        for (pair, word) in four.chunks_mut(2).zip(drawn.chunks_exact(2)) {
            let radius = libm::sqrt(-2.0 * libm::log((f64::from(word[0]) + 1.0) / 4_294_967_296.0));
            let angle = std::f64::consts::TAU * (f64::from(word[1]) / 4_294_967_296.0);
            let drawn = [radius * libm::cos(angle), radius * libm::sin(angle)];
            for (value, number) in pair.iter_mut().zip(drawn) {
                *value = (number * scale) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers from the Random123 distribution (`kat_vectors`, philox4x32 10).
    #[test]
    fn philox_gives_the_published_known_answers() {
        let zeros = philox([0; 4], [0; 2]);
        assert_eq!(zeros, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = philox([u32::MAX; 4], [u32::MAX; 2]);
        assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = philox(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
        );
        assert_eq!(pi, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn every_part_of_the_key_matters() {
        let of = |seed, step, layer, part, sample, draw| {
            Random::of_layer(seed, StepId::new(step), layer, part).words(sample, draw, 0)
        };
        let base = of(1, 1, 1, 1, 1, 1);
        assert_eq!(base, of(1, 1, 1, 1, 1, 1));
        let others = [
            of(2, 1, 1, 1, 1, 1),
            of(1, 2, 1, 1, 1, 1),
            of(1, 1, 2, 1, 1, 1),
            of(1, 1, 1, 2, 1, 1),
            of(1, 1, 1, 1, 2, 1),
            of(1, 1, 1, 1, 1, 2),
        ];
        assert!(others.iter().all(|other| *other != base), "{others:?}");
    }

    #[test]
    fn normal_numbers_have_their_mean_and_deviation() {
        let mut values = vec![0.0; 40_001];
        fill_normal(&Random::named(7, "w"), 0.5, &mut values);
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
        let square =
            values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((square.sqrt() - 0.5).abs() < 0.01, "{square}");
    }

    #[test]
    fn uniform_numbers_stay_within_their_bound() {
        let mut values = vec![0.0; 10_000];
        fill_uniform(&Random::named(7, "w"), 0.25, &mut values);
        assert!(values.iter().all(|v| (-0.25..0.25).contains(v)));
        assert!(values.iter().any(|v| *v > 0.24) && values.iter().any(|v| *v < -0.24));
        assert!((0..1000).all(|sample| Random::named(1, "d").below(sample, 0, 7) < 7));
    }
}
