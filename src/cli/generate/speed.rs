//! How fast text comes.

use crate::process;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::time::Instant;

/// How fast it goes.
pub(super) struct Speed {
    prompt: usize,
    /// How many of its tokens the network sees.
    seen: usize,
    started: Instant,
    /// When the first and the last token came, and how many.
    came: Option<(Instant, Instant, usize)>,
}

/// What `--json` prints.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    prompt: &'a str,
    text: &'a str,
    tokens: &'a [i32],
    prompt_tokens: usize,
    /// From the beginning to the first token, of those that the context has room for.
    prompt_tokens_per_s: Option<f64>,
    /// From the first token to the last.
    tokens_per_s: Option<f64>,
}

impl Speed {
    pub(super) fn new(prompt: usize, context: usize) -> Self {
        let (started, came) = (Instant::now(), None);
        Self {
            prompt,
            seen: prompt.min(context),
            started,
            came,
        }
    }

    pub(super) fn saw_token(&mut self) {
        let now = Instant::now();
        let (first, _, count) = self.came.unwrap_or((now, now, 0));
        self.came = Some((first, now, count + 1));
    }

    /// Tokens a second of the prompt and of what follows, where there was enough of it.
    fn per_second(&self) -> [Option<f64>; 2] {
        let Some((first, last, count)) = self.came else {
            return [None; 2];
        };
        let rate = |tokens: usize, seconds: f64| {
            (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds)
        };
        [
            rate(self.seen, (first - self.started).as_secs_f64()),
            rate(count - 1, (last - first).as_secs_f64()),
        ]
    }

    /// A line for people who watch.
    pub(super) fn say(&self) {
        let [prompt, rest] = self.per_second().map(|rate| match rate {
            Some(rate) => format!("{rate:.0} tokens/s"),
            None => "too short to measure".into(),
        });
        let line = format!("prompt {prompt}, then {rest}");
        match io::stderr().is_terminal() && process::is_first() {
            true => drop(writeln!(io::stderr(), "{line}")),
            false => tracing::info!("{line}"),
        }
    }

    pub(super) fn line<'a>(&self, prompt: &'a str, text: &'a str, tokens: &'a [i32]) -> Line<'a> {
        let [prompt_tokens_per_s, tokens_per_s] = self.per_second();
        Line {
            prompt,
            text,
            tokens,
            prompt_tokens: self.prompt,
            prompt_tokens_per_s,
            tokens_per_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_what_the_network_sees_counts() {
        let started = Instant::now();
        let at = |seconds| started + Duration::from_secs(seconds);
        let mut speed = Speed::new(1000, 64);
        speed.started = started;
        speed.came = Some((at(2), at(4), 7));
        assert_eq!(speed.per_second(), [Some(32.0), Some(3.0)]);
        speed = Speed::new(10, 64);
        speed.started = started;
        speed.came = Some((at(2), at(4), 7));
        assert_eq!(speed.per_second(), [Some(5.0), Some(3.0)]);
    }
}
