//! What both programs share: sizes from the command line, tokens, and the clock.

use std::time::Instant;

/// Sizes, with the names that `../torch_train.py` gives them.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub layers: usize,
    pub width: usize,
    pub heads: usize,
    pub context: usize,
    pub vocab: usize,
    pub batch_size: usize,
    pub micro_batch_size: usize,
    pub steps: usize,
}

impl Sizes {
    /// Takes them from the command line, or ends the program saying what is wrong there.
    pub fn from_command_line() -> Self {
        let mut sizes = Self {
            layers: 8,
            width: 256,
            heads: 4,
            context: 128,
            vocab: 512,
            batch_size: 32,
            micro_batch_size: 4,
            steps: 13,
        };
        let mut given = std::env::args().skip(1);
        while let Some(name) = given.next() {
            let place = match name.as_str() {
                "--layers" => &mut sizes.layers,
                "--width" => &mut sizes.width,
                "--heads" => &mut sizes.heads,
                "--context" => &mut sizes.context,
                "--vocab" => &mut sizes.vocab,
                "--batch-size" => &mut sizes.batch_size,
                "--micro-batch-size" => &mut sizes.micro_batch_size,
                "--steps" => &mut sizes.steps,
                _ => end(&format!("no option {name}")),
            };
            match given.next().map(|value| value.parse()) {
                Some(Ok(value)) if value > 0 => *place = value,
                _ => end(&format!("{name} wants a number of at least 1")),
            }
        }
        if sizes.width % sizes.heads != 0 || sizes.batch_size % sizes.micro_batch_size != 0 {
            end("heads must divide the width, and the micro-batch the batch");
        }
        sizes
    }

    pub fn micro_batches(&self) -> usize {
        self.batch_size / self.micro_batch_size
    }
}

fn end(problem: &str) -> ! {
    eprintln!("{problem}");
    std::process::exit(2);
}

/// Pseudorandom tokens: inputs of a micro-batch, and what follows each.
pub struct Tokens(u64);

impl Tokens {
    pub fn new() -> Self {
        Self(1)
    }

    pub fn micro_batch(&mut self, sizes: &Sizes) -> (Vec<i32>, Vec<i32>) {
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..sizes.micro_batch_size {
            let row: Vec<i32> = (0..=sizes.context)
                .map(|_| self.next(sizes.vocab))
                .collect();
            inputs.extend(&row[..sizes.context]);
            targets.extend(&row[1..]);
        }
        (inputs, targets)
    }

    fn next(&mut self, vocab: usize) -> i32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % vocab as u64) as i32
    }
}

/// Takes the steps, which return their loss, and prints them as `brigade train --json` does.
pub fn train(sizes: &Sizes, mut step: impl FnMut(&mut Tokens) -> f32) {
    let (mut tokens, begun, mut loss) = (Tokens::new(), Instant::now(), 0.0);
    for number in 0..sizes.steps {
        let started = Instant::now();
        loss = step(&mut tokens);
        let step_ms = 1e3 * started.elapsed().as_secs_f64();
        println!("{{\"step\":{number},\"loss\":{loss},\"step_ms\":{step_ms}}}");
    }
    let all = (sizes.steps * sizes.batch_size * sizes.context) as f64;
    let tokens_per_s = all / begun.elapsed().as_secs_f64();
    println!(
        "{{\"summary\":{{\"steps\":{},\"final_loss\":{loss},\"tokens_per_s\":{tokens_per_s}}}}}",
        sizes.steps
    );
}
