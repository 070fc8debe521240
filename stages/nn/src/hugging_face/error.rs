//! What can be wrong with a `config.json`.

/// What is wrong with a `config.json`, or with a decoder that is to have one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HuggingFaceError {
    /// It is no JSON object.
    #[error("line {line}, column {column}: {problem}")]
    Json {
        /// Where, from 1.
        line: usize,
        /// Where in the line, from 1.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A setting that would give other numbers than here, or has no sense.
    #[error("{setting} is {value}; supported: {supported}")]
    Setting {
        /// Its name.
        setting: String,
        /// Its value, as JSON.
        value: String,
        /// What it may be.
        supported: String,
    },
    /// A decoder that the other library does not have.
    #[error("{problem}")]
    NotThere {
        /// What does not go, and what to change.
        problem: String,
    },
}

impl From<serde_json::Error> for HuggingFaceError {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let end = format!(" at line {line} column {column}");
        let problem = text.strip_suffix(&end).unwrap_or(&text);
        Self::Json {
            line,
            column: column.max(1),
            problem: brief(problem),
        }
    }
}

/// What fits into a line, without what a terminal would obey.
pub(super) fn brief(text: &str) -> String {
    const MOST: usize = 80;
    let short = text.chars().take(MOST);
    let short = short.map(|c| if c.is_control() { '?' } else { c });
    let dots = if text.chars().nth(MOST).is_some() {
        ".."
    } else {
        ""
    };
    short.chain(dots.chars()).collect()
}
