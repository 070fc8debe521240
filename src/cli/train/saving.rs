//! Checkpoints on the way, and what becomes of those that cannot be written.

use super::Run;
use crate::Error;
use crate::cli::failure::Failure;
use crate::cli::options::OnSaveError;
use crate::cli::output::StepLine;
use crate::process;
use std::path::PathBuf;

impl Run<'_> {
    /// Begins to save a checkpoint next to training.
    pub(super) fn save_beside(&mut self) -> Result<(), Failure> {
        let Some(to) = &self.saves else {
            return Ok(());
        };
        match self.trainer.save_beside(to.clone()) {
            Err(error) => self.not_saved(error),
            Ok(()) => Ok(()),
        }
    }

    /// What became of a checkpoint that was written next to training.
    pub(super) fn heed_saved(
        &mut self,
        saved: Result<PathBuf, Error>,
        line: &mut StepLine,
    ) -> Result<(), Failure> {
        match saved {
            Ok(path) => {
                line.checkpoint = Some(path.display().to_string());
                self.saved = Some((step_of(&path), path));
                Ok(())
            }
            Err(error) => self.not_saved(error),
        }
    }

    /// Saves where the run has come to, at its end or where it is asked to end.
    pub(super) fn save_last(&mut self, asked: bool) -> Result<(), Failure> {
        let Some(to) = self.saves.clone() else {
            return Ok(());
        };
        match self.trainer.finish_saving() {
            Ok(path) => {
                self.saved = path
                    .map(|path| (step_of(&path), path))
                    .or(self.saved.take());
            }
            Err(error) => self.not_saved(error)?,
        }
        let done = self.trainer.steps();
        let wanted = asked || self.options.saving.save_every > 0;
        if !wanted || self.saved.as_ref().is_some_and(|(step, _)| *step == done) {
            return Ok(());
        }
        match self.trainer.save(to) {
            Ok(path) => self.saved = Some((done, path)),
            // Who asks to end wants to go on some day.
            Err(error) if asked => return Err(error.into()),
            Err(error) => self.not_saved(error)?,
        }
        Ok(())
    }

    /// A checkpoint that could not be written: the run ends or goes on, as was asked.
    fn not_saved(&mut self, error: Error) -> Result<(), Failure> {
        let written = matches!(error, Error::Write { .. } | Error::Elsewhere { .. });
        if !written || self.options.saving.on_save_error == OnSaveError::Stop {
            return Err(error.into());
        }
        if process::is_first() {
            let last = self
                .saved
                .as_ref()
                .map_or("there is none before it".to_owned(), |(step, _)| {
                    format!("that of step {step} stays")
                });
            let problem = format!("no checkpoint: {error}; {last}, training goes on");
            self.output.warn(&problem);
        }
        Ok(())
    }
}

/// A checkpoint's folder has the number of its step.
fn step_of(path: &std::path::Path) -> u64 {
    let name = path.file_name().and_then(|name| name.to_str());
    let step = name.and_then(|name| name.rsplit('-').next()?.parse().ok());
    step.unwrap_or(0)
}
