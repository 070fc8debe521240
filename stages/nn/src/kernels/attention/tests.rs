use super::*;
use brigade_layer::Random;
use ndarray::{Array1, Array4};

fn wave(len: usize, k: f32) -> Vec<f32> {
    (0..len).map(|i| libm::sinf(i as f32 * k + 0.3)).collect()
}

/// Whose keys and values, and how many of them queries see.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// [samples, queries, keys, heads of queries, heads of keys, columns]
    sizes: [usize; 6],
    sight: Sight<'static>,
}

/// [samples, length, heads of queries, heads of keys, columns]
const CAUSAL: [[usize; 5]; 15] = [
    [1, 1, 1, 1, 1],
    [2, 7, 3, 3, 5],
    [1, 64, 2, 2, 8],
    [2, 131, 2, 2, 6],
    [1, 200, 3, 3, 64],
    [2, 128, 2, 2, 80],
    [1, 33, 2, 2, 16],
    [1, 17, 1, 1, 33],
    [1, 96, 2, 2, 48],
    [1, 64, 1, 1, 520],
    [1, 577, 1, 1, 20],
    [1, 1100, 1, 1, 32],
    [2, 131, 6, 2, 16],
    [2, 7, 4, 1, 5],
    [1, 200, 4, 2, 64],
];

/// As a case has them.
const ALL: [[usize; 6]; 12] = [
    [1, 1, 1, 1, 1, 1],
    [2, 7, 7, 3, 3, 5],
    [1, 1, 70, 2, 2, 16],
    [1, 70, 1, 2, 2, 16],
    [2, 131, 37, 2, 2, 6],
    [2, 37, 131, 2, 2, 6],
    [1, 200, 96, 3, 3, 64],
    [1, 33, 200, 2, 2, 80],
    [1, 20, 64, 1, 1, 520],
    [1, 65, 1100, 1, 1, 32],
    [1, 577, 40, 1, 1, 20],
    [2, 40, 100, 4, 2, 16],
];

/// Of the first sample and of the second.
static PADDED: [([usize; 6], [usize; 2]); 5] = [
    ([2, 7, 9, 3, 3, 5], [9, 1]),
    ([2, 70, 131, 2, 2, 16], [33, 131]),
    ([2, 100, 200, 2, 2, 64], [64, 97]),
    ([2, 40, 1100, 1, 1, 20], [1000, 31]),
    ([2, 20, 65, 4, 2, 8], [64, 0]),
];

fn cases() -> impl Iterator<Item = Case> {
    let causal = CAUSAL.map(|[b, t, h, g, c]| Case {
        sizes: [b, t, t, h, g, c],
        sight: Sight::Causal,
    });
    let all = ALL.map(|sizes| Case {
        sizes,
        sight: Sight::All,
    });
    let padded = PADDED.iter().map(|(sizes, seen)| Case {
        sizes: *sizes,
        sight: Sight::First(seen),
    });
    causal.into_iter().chain(all).chain(padded)
}

/// out, dq, dk, dv.
type Results = [Array4<f32>; 4];

/// Queries with something behind them, keys and values side by side, and dout.
fn inputs([b, t, s, h, g, c]: [usize; 6]) -> [Array4<f32>; 3] {
    let of = |length, heads, k| {
        Array4::from_shape_vec((b, length, heads, c), wave(b * length * heads * c, k)).unwrap()
    };
    [of(t, h + 1, 0.37), of(s, 2 * g, 0.53), of(t, h, 0.91)]
}

fn sequences([q, kv, _]: &[Array4<f32>; 3]) -> Sequences<'_> {
    let g = kv.len_of(Axis(2)) / 2;
    let [k, v] = [0..g, g..2 * g].map(|heads| kv.slice(s![.., .., heads, ..]));
    [q.slice(s![.., .., ..-1, ..]), k, v]
}

impl Case {
    fn attention(&self, precision: Precision, dropout: f32) -> Attention<'static> {
        Attention {
            heads: self.sizes[3],
            sight: self.sight,
            mask: Mask::new(Random::named(5, "attention"), dropout),
            first_sample: 3,
            precision,
            threads: 1,
        }
    }

    fn compute(&self, attention: Attention<'_>, way: Way) -> Results {
        let [b, t, s, h, g, c] = self.sizes;
        let inputs = inputs(self.sizes);
        let sequences = sequences(&inputs);
        let nothing = |length, heads| Array4::from_elem((b, length, heads, c), f32::NAN);
        let (mut out, mut dq) = (nothing(t, h), nothing(t, h));
        let (mut dk, mut dv) = (nothing(s, g), nothing(s, g));
        let mut stats = vec![f32::NAN; b * h * t * STATS];
        // For every way, whether a head would be computed by it or not.
        let space = |matrices| vec![f32::NAN; attention.threads * 4 * scratch([t, s], c, matrices)];
        attention.forward_by(way, out.view_mut(), &mut stats, sequences, &mut space(1));
        let gradients = [dq.view_mut(), dk.view_mut(), dv.view_mut()];
        let (saved, dout) = ((&stats[..], sequences), inputs[2].view());
        attention.backward_by(way, gradients, dout, saved, &mut space(2));
        [out, dq, dk, dv]
    }

    /// How many keys a query of a sample sees.
    fn seen(&self, sample: usize, query: usize) -> usize {
        match self.sight {
            Sight::Causal => query + 1,
            Sight::All => self.sizes[2],
            Sight::First(seen) => seen[sample].max(1),
        }
    }

    /// Row by row.
    fn truth(&self) -> Results {
        let [b, t, s, h, g, c] = self.sizes;
        let inputs = inputs(self.sizes);
        let [q, k, v] = sequences(&inputs);
        let scale = 1.0 / (c as f32).sqrt();
        let mut all = [(t, h), (t, h), (s, g), (s, g)]
            .map(|(length, heads)| Array4::<f32>::zeros((b, length, heads, c)));
        for (sample, head) in (0..b).flat_map(|b| (0..h).map(move |h| (b, h))) {
            let group = head / (h / g);
            for i in 0..t {
                let seen = self.seen(sample, i);
                let [k, v] = [k, v].map(|of| of.slice_move(s![sample, ..seen, group, ..]));
                let q = q.slice(s![sample, i, head, ..]);
                let dout = inputs[2].slice(s![sample, i, head, ..]);
                let mut p: Array1<f32> = k.dot(&q) * scale;
                p -= p.fold(f32::NEG_INFINITY, |a, b| a.max(*b));
                p.mapv_inplace(libm::expf);
                p /= p.sum();
                let dp = v.dot(&dout);
                let ds = &p * &(&dp - (&p * &dp).sum());
                let at = s![sample, i, head, ..];
                all[0].slice_mut(at).assign(&p.dot(&v));
                all[1].slice_mut(at).assign(&(ds.dot(&k) * scale));
                for j in 0..seen {
                    let at = s![sample, j, group, ..];
                    all[2].slice_mut(at).scaled_add(ds[j] * scale, &q);
                    all[3].slice_mut(at).scaled_add(p[j], &dout);
                }
            }
        }
        all
    }
}

/// The ways that this processor has for heads of so many columns.
fn ways(precision: Precision, columns: usize) -> impl Iterator<Item = Way> {
    let units = Unit::available().iter().copied();
    let fits = move |unit: &Unit| *unit == Unit::Amx || precision == Precision::Bf16;
    let units = units.filter(move |unit| tiles::unit(precision, columns).is_some() && fits(unit));
    [Way::Plain].into_iter().chain(units.map(Way::Tiles))
}

/// Asserts that numbers are within this share of the greatest that there should be.
fn assert_close(found: &Results, truth: &Results, share: f32, what: &str) {
    for (number, (found, truth)) in found.iter().zip(truth).enumerate() {
        let part = ["out", "dq", "dk", "dv"][number];
        let most = truth.iter().fold(1.0f32, |most, x| most.max(x.abs()));
        let off = (found - truth)
            .iter()
            .fold(0.0f32, |most, x| most.max(x.abs()));
        let finite = found.iter().all(|x| x.is_finite());
        assert!(
            finite && off <= share * most,
            "{part} {what}: {off:e} of {most}"
        );
    }
}

#[test]
fn every_way_agrees_with_a_row_by_row_reference_at_odd_sizes() {
    for case in cases() {
        let truth = case.truth();
        for (precision, share) in [(Precision::F32, 1e-5), (Precision::Bf16, 0.03)] {
            for way in ways(precision, case.sizes[5]) {
                let found = case.compute(case.attention(precision, 0.0), way);
                let what = format!("{way:?} {precision:?} {case:?}");
                assert_close(&found, &truth, share, &what);
            }
        }
    }
}

/// Whether a way's products are the ones that the plain way computes with here.
fn sums_alike(way: Way) -> bool {
    way == Way::Plain || Unit::of(Precision::Bf16).map(Way::Tiles) == Some(way)
}

/// The plain way's products are the tiles', as their own tests show.
#[test]
fn both_ways_give_the_same_bits_of_bf16() {
    for case in cases() {
        for dropout in [0.0, 0.2] {
            let attention = case.attention(Precision::Bf16, dropout);
            let ways = ways(Precision::Bf16, case.sizes[5]).filter(|way| sums_alike(*way));
            let mut all = ways.map(|way| case.compute(attention, way));
            let first = all.next().unwrap();
            for other in all {
                assert_eq!(first, other, "{case:?}");
            }
        }
    }
}

#[test]
fn both_ways_drop_the_same() {
    for case in cases() {
        let attention = case.attention(Precision::F32, 0.3);
        let columns = case.sizes[5];
        let mut all = ways(Precision::F32, columns).map(|way| case.compute(attention, way));
        let first = all.next().unwrap();
        for other in all {
            assert_close(&other, &first, 1e-5, &format!("{case:?}"));
        }
    }
}

/// What pads the keys is as if it were not there, for each sample alone; nothing comes back to it.
#[test]
fn padded_keys_do_not_show() {
    for (sizes, seen) in &PADDED {
        let case = Case {
            sizes: *sizes,
            sight: Sight::First(seen),
        };
        let [b, t, keys, h, g, c] = *sizes;
        for dropout in [0.0, 0.3] {
            let found = case.compute(case.attention(Precision::Bf16, dropout), Way::Plain);
            for sample in 0..b {
                let seen = seen[sample].max(1);
                let cut = Case {
                    sizes: [b, t, seen, h, g, c],
                    sight: Sight::All,
                };
                let attention = cut.attention(Precision::Bf16, dropout);
                let inputs = inputs(*sizes);
                let [q, k, v] = sequences(&inputs);
                let [k, v] = [k, v].map(|of| of.slice_move(s![.., ..seen, .., ..]));
                let mut out = Array4::from_elem((b, t, h, c), f32::NAN);
                let mut stats = vec![f32::NAN; b * h * t * STATS];
                let mut space = vec![f32::NAN; scratch([t, seen], c, 1)];
                let sequences = [q, k, v];
                let out_view = out.view_mut();
                attention.forward_by(Way::Plain, out_view, &mut stats, sequences, &mut space);
                let row = |of: &Array4<f32>| of.index_axis(Axis(0), sample).to_owned();
                assert_eq!(row(&found[0]), row(&out), "{sizes:?} {sample}");
                for gradient in &found[2..] {
                    let hidden = gradient.slice(s![sample, seen..keys, .., ..]);
                    assert!(hidden.iter().all(|x| *x == 0.0), "{sizes:?} {sample}");
                }
            }
        }
    }
}

#[test]
fn threads_and_other_heads_do_not_show() {
    let sizes = [2, 131, 131, 4, 2, 48];
    for sight in [Sight::Causal, Sight::All, Sight::First(&[131, 40])] {
        let case = Case { sizes, sight };
        for precision in [Precision::F32, Precision::Bf16] {
            for way in ways(precision, 48) {
                let of = |threads| {
                    let attention = Attention {
                        threads,
                        ..case.attention(precision, 0.1)
                    };
                    case.compute(attention, way)
                };
                assert_eq!(of(1), of(4));
            }
        }
    }
}

/// Of a few keys less than there may be, scratch of all keys is enough.
#[test]
fn what_is_padded_needs_no_more_room() {
    for columns in [1, 5, 16, 33, 64, 128, 300, 520] {
        for queries in [1, 7, 32, 64, 500] {
            let mut most = 0;
            for keys in 1..1200 {
                let lengths = [queries, keys];
                let own = plain::space(lengths, columns);
                most = most.max(own);
                assert_eq!(own, most, "{queries} {keys} {columns}");
            }
        }
    }
}

#[test]
fn the_masks_of_queries_follow_one_another() {
    let mut before = 0;
    for query in 0..300 {
        assert_eq!(blocks_before(query), before);
        before += (query + 1usize).div_ceil(64);
    }
}
