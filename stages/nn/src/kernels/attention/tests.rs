use super::*;
use brigade_layer::Random;
use ndarray::{Array1, Array2, Array4};

fn wave(len: usize, k: f32) -> Vec<f32> {
    (0..len).map(|i| libm::sinf(i as f32 * k + 0.3)).collect()
}

/// [samples, length, heads of queries, heads of keys, columns]
const SIZES: [[usize; 5]; 15] = [
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

/// out, dq, dk, dv.
type Results = [Array4<f32>; 4];

/// Queries, keys and values side by side, and dout.
fn inputs([b, t, h, g, c]: [usize; 5]) -> (Array4<f32>, Array4<f32>) {
    let all = h + 2 * g;
    let qkv = Array4::from_shape_vec((b, t, all, c), wave(b * t * all * c, 0.37));
    let dout = Array4::from_shape_vec((b, t, h, c), wave(b * t * h * c, 0.91));
    (qkv.unwrap(), dout.unwrap())
}

fn split(qkv: &Array4<f32>, h: usize, g: usize) -> Sequences<'_> {
    [0..h, h..h + g, h + g..h + 2 * g].map(|heads| qkv.slice(s![.., .., heads, ..]))
}

fn attention(heads: usize, precision: Precision, dropout: f32) -> Attention {
    Attention {
        heads,
        mask: Mask::new(Random::named(5, "attention"), dropout),
        first_sample: 3,
        precision,
        threads: 1,
    }
}

fn compute(attention: Attention, way: Way, sizes @ [b, t, h, g, c]: [usize; 5]) -> Results {
    let (qkv, dout) = inputs(sizes);
    let sequences = split(&qkv, h, g);
    let nothing = |heads| Array4::from_elem((b, t, heads, c), f32::NAN);
    let [mut out, mut dq, mut dk, mut dv] = [h, h, g, g].map(nothing);
    let mut stats = vec![f32::NAN; b * h * t * STATS];
    // For every way, whether a head would be computed by it or not.
    let space = |matrices| vec![f32::NAN; attention.threads * 4 * scratch(t, c, matrices)];
    attention.forward_by(way, out.view_mut(), &mut stats, sequences, &mut space(1));
    let gradients = [dq.view_mut(), dk.view_mut(), dv.view_mut()];
    let saved = (&stats[..], sequences);
    attention.backward_by(way, gradients, dout.view(), saved, &mut space(2));
    [out, dq, dk, dv]
}

/// The ways that this processor has for heads of so many columns.
fn ways(precision: Precision, columns: usize) -> impl Iterator<Item = Way> {
    let units = Unit::available().iter().copied();
    let fits = move |unit: &Unit| *unit == Unit::Amx || precision == Precision::Bf16;
    let units = units.filter(move |unit| tiles::unit(precision, columns).is_some() && fits(unit));
    [Way::Plain].into_iter().chain(units.map(Way::Tiles))
}

/// One head, row by row. Gives (out, dq, dk, dv).
fn naive([q, k, v]: [&Array2<f32>; 3], dout: &Array2<f32>) -> [Array2<f32>; 4] {
    let (t, c) = q.dim();
    let scale = 1.0 / (c as f32).sqrt();
    let mut all: [Array2<f32>; 4] = std::array::from_fn(|_| Array2::zeros((t, c)));
    for i in 0..t {
        let keys = k.slice(s![..=i, ..]);
        let mut p: Array1<f32> = keys.dot(&q.row(i)) * scale;
        p.mapv_inplace(libm::expf);
        p /= p.sum();
        all[0].row_mut(i).assign(&p.dot(&v.slice(s![..=i, ..])));
        let dp = v.slice(s![..=i, ..]).dot(&dout.row(i));
        let ds = &p * &(&dp - (&p * &dp).sum());
        all[1].row_mut(i).assign(&(ds.dot(&keys) * scale));
        for j in 0..=i {
            all[2].row_mut(j).scaled_add(ds[j] * scale, &q.row(i));
            all[3].row_mut(j).scaled_add(p[j], &dout.row(i));
        }
    }
    all
}

#[test]
fn every_way_agrees_with_a_row_by_row_reference_at_odd_sizes() {
    for sizes @ [b, _, h, g, c] in SIZES {
        let (qkv, dout) = inputs(sizes);
        for (way, precision) in [Precision::F32, Precision::Bf16]
            .into_iter()
            .flat_map(|precision| ways(precision, c).map(move |way| (way, precision)))
        {
            let results = compute(attention(h, precision, 0.0), way, sizes);
            let close = |a: ArrayView2<'_, f32>, b: &Array2<f32>, what: &str| {
                let error = match precision {
                    Precision::Bf16 => 0.03,
                    _ => 1e-5,
                };
                let most = b.iter().fold(1.0f32, |most, x| most.max(x.abs()));
                let off = (&a - b).iter().fold(0.0f32, |most, x| most.max(x.abs()));
                let finite = a.iter().all(|x| x.is_finite());
                assert!(
                    finite && off <= error * most,
                    "{what} {way:?} {precision:?} {sizes:?}: {off:e} of {most}"
                );
            };
            let mut truth = results.clone().map(|of| of * 0.0);
            for (sample, head) in (0..b).flat_map(|b| (0..h).map(move |h| (b, h))) {
                let [q, k, v] = split(&qkv, h, g);
                let group = head / (h / g);
                let q = q.slice(s![sample, .., head, ..]).to_owned();
                let [k, v] = [k, v].map(|of| of.slice(s![sample, .., group, ..]).to_owned());
                let dout = dout.slice(s![sample, .., head, ..]).to_owned();
                let one = naive([&q, &k, &v], &dout);
                for (part, (all, one)) in truth.iter_mut().zip(one).enumerate() {
                    let head = if part < 2 { head } else { group };
                    all.slice_mut(s![sample, .., head, ..])
                        .scaled_add(1.0, &one);
                }
            }
            for (number, (found, truth)) in results.iter().zip(&truth).enumerate() {
                for (found, truth) in found.outer_iter().zip(truth.outer_iter()) {
                    for (found, truth) in found.axis_iter(Axis(1)).zip(truth.axis_iter(Axis(1))) {
                        close(found, &truth.to_owned(), ["out", "dq", "dk", "dv"][number]);
                    }
                }
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
    for sizes @ [_, _, h, _, c] in SIZES {
        for dropout in [0.0, 0.2] {
            let attention = attention(h, Precision::Bf16, dropout);
            let ways = ways(Precision::Bf16, c).filter(|way| sums_alike(*way));
            let mut all = ways.map(|way| compute(attention, way, sizes));
            let first = all.next().unwrap();
            for other in all {
                assert_eq!(first, other, "{sizes:?}");
            }
        }
    }
}

#[test]
fn both_ways_drop_the_same() {
    for sizes @ [_, _, h, _, c] in SIZES {
        let attention = attention(h, Precision::F32, 0.3);
        let mut all = ways(Precision::F32, c).map(|way| compute(attention, way, sizes));
        let first = all.next().unwrap();
        for other in all {
            for (first, other) in first.iter().zip(other) {
                let off = (first - &other).mapv(f32::abs);
                let most = first.iter().fold(1.0f32, |most, x| most.max(x.abs()));
                assert!(off.iter().all(|off| *off < 1e-5 * most), "{sizes:?}");
            }
        }
    }
}

#[test]
fn threads_and_other_heads_do_not_show() {
    let sizes = [2, 131, 4, 2, 48];
    for precision in [Precision::F32, Precision::Bf16] {
        for way in ways(precision, 48) {
            let of = |threads| {
                let attention = Attention {
                    threads,
                    ..attention(4, precision, 0.1)
                };
                compute(attention, way, sizes)
            };
            assert_eq!(of(1), of(4));
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
