//! What loading a checkpoint takes in memory: that of a node is its share and a small constant.
//!
//! 1. `write FOLDER GB [f32|bf16]`: a GPT-2 of random weights of so many GB, in files of at most
//!    1 GB with an index, as another library writes it.
//! 2. `load FOLDER`: over four nodes of this process or, under a launcher with four ranks, one on
//!    each. Every process says what it held at most, beside what its parameters take.
//!
//! ```text
//! cargo bench --bench weights -- write /disk/big 4 bf16
//! cargo bench --bench weights -- load /disk/big
//! mpirun -n 4 PROGRAM load /disk/big      (built with --features mpi; PROGRAM as cargo prints it)
//! ```
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::interchange::TensorFolder;
use brigade::nn::{AdamW, Decoder, Gpt};
use brigade::{Config, Trainer, process};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const WIDTH: usize = 2048;
const SHARD_BYTES: usize = 1 << 30;
const NODES: usize = 4;
const MIB: f64 = (1 << 20) as f64;

fn main() {
    let arguments = std::env::args().skip(1);
    let arguments: Vec<String> = arguments.filter(|it| !it.starts_with('-')).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["write", folder, gb] => write(Path::new(folder), gb.parse().unwrap(), 4),
        ["write", folder, gb, "f32"] => write(Path::new(folder), gb.parse().unwrap(), 4),
        ["write", folder, gb, "bf16"] => write(Path::new(folder), gb.parse().unwrap(), 2),
        ["load", folder] => load(Path::new(folder)),
        _ => println!("give write FOLDER GB [f32|bf16], or load FOLDER"),
    }
}

/// A tensor's name, shape and bytes.
type Info = (String, Vec<usize>, usize);

fn write(folder: &Path, gb: f64, width: usize) {
    let block = 12 * WIDTH * WIDTH * width;
    let gpt = Gpt {
        vocab: 8192,
        context: 512,
        width: WIDTH,
        heads: 16,
        blocks: ((gb * 1e9) as usize).div_ceil(block),
        ..Gpt::default()
    };
    let decoder = Decoder::from(gpt);
    let params = decoder.network().unwrap().params().into_iter();
    let params: BTreeMap<_, _> = params.map(|(key, spec)| (key, spec.shape)).collect();
    let names = decoder.hugging_face_names().unwrap().params.into_iter();
    let tensors = names.map(|param| -> Info {
        let mut shape = params[&param.key].axes().to_vec();
        if param.transposed {
            shape.reverse();
        }
        let bytes = width * shape.iter().product::<usize>();
        (param.name, shape, bytes)
    });
    let mut shards: Vec<Vec<Info>> = vec![Vec::new()];
    for tensor in tensors {
        let held: usize = shards.last().unwrap().iter().map(|it| it.2).sum();
        if held > 0 && held + tensor.2 > SHARD_BYTES {
            shards.push(Vec::new());
        }
        shards.last_mut().unwrap().push(tensor);
    }
    fs::create_dir_all(folder).unwrap();
    let (mut map, mut total) = (Map::new(), 0);
    for (number, shard) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
        write_shard(&folder.join(&file), shard, width);
        map.extend(shard.iter().map(|(name, _, _)| (name.clone(), json!(file))));
        total += shard.iter().map(|it| it.2).sum::<usize>();
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
    fs::write(
        folder.join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
    let dtype = if width == 4 { "float32" } else { "bfloat16" };
    let config = decoder.to_hugging_face(dtype).unwrap();
    fs::write(folder.join("config.json"), config).unwrap();
    let (files, parameters) = (shards.len(), decoder.parameters());
    println!(
        "{parameters} parameters, {:.2} GB in {files} files",
        total as f64 / 1e9
    );
}

fn write_shard(path: &Path, tensors: &[Info], width: usize) {
    let (mut header, mut end) = (Map::new(), 0);
    for (name, shape, bytes) in tensors {
        let dtype = if width == 4 { "F32" } else { "BF16" };
        let offsets = [end, end + bytes];
        let info = json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
        header.insert(name.clone(), info);
        end += bytes;
    }
    let header = Value::Object(header).to_string();
    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    // Small numbers of any sign, of either width: 0x3c.. and 0xbc...
    let mut state = 1u32;
    let numbers: Vec<u8> = (0..1 << 20)
        .map(|at| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let high = at % width == width - 1;
            if high {
                0x3c | ((state >> 24) as u8 & 0x80)
            } else {
                (state >> 24) as u8
            }
        })
        .collect();
    let mut left = end;
    while left > 0 {
        let now = left.min(numbers.len());
        file.write_all(&numbers[..now]).unwrap();
        left -= now;
    }
    file.into_inner().unwrap().sync_all().unwrap();
}

fn load(folder: &Path) {
    let config = fs::read_to_string(folder.join("config.json")).unwrap();
    let decoder = Decoder::from_hugging_face(&config).unwrap();
    let network = decoder.with_context(16).unwrap().network().unwrap();
    let config = Config {
        nodes: NODES,
        batch_size: NODES,
        micro_batch_size: 1,
        ..Config::default()
    };
    let bare = status("VmRSS");
    let mut trainer = Trainer::start(&network, &config, AdamW::new(1e-3)).unwrap();
    let (started, highest_before) = (status("VmRSS"), status("VmHWM"));
    let watch = Watch::start();
    let begun = Instant::now();
    let names = decoder.hugging_face_names().unwrap();
    let tensors = TensorFolder::open(folder).unwrap();
    trainer.load_tensors(&tensors, &names).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let [anonymous, files] = watch.stop();
    let highest = status("VmHWM");
    // What this process's nodes hold.
    let rank = process::rank();
    let nodes = trainer.report().unwrap().into_iter();
    let share: u64 = nodes
        .filter(|node| process::count() == 1 || node.node.index() == rank)
        .map(|node| node.params.value)
        .sum();
    let share = share as f64 / MIB;
    let line = format!(
        "rank {rank}: share {share:.0} MiB; at most {highest:.0} MiB ({:+.0} beyond share and the \
         {bare:.0} before); while loading anonymous {anonymous:.0} and of files {files:.0}; \
         {started:.0} ({highest_before:.0}) before loading; {seconds:.1} s\n",
        highest - share - bare
    );
    // At once, so that ranks do not write into each other's lines.
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

/// A line of what the system says of this process, in MiB.
fn status(name: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}

/// Looks again and again at what is anonymous and what is of files, and keeps the most.
struct Watch {
    done: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<[f64; 2]>,
}

impl Watch {
    fn start() -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let until = done.clone();
        let thread = std::thread::spawn(move || {
            let mut most = [0.0f64; 2];
            while !until.load(Ordering::Relaxed) {
                let now = [status("RssAnon"), status("RssFile")];
                most = [most[0].max(now[0]), most[1].max(now[1])];
                std::thread::sleep(Duration::from_millis(2));
            }
            most
        });
        Self { done, thread }
    }

    fn stop(self) -> [f64; 2] {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
