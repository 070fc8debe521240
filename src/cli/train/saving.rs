//! Checkpoints on the way, and what becomes of those that cannot be written.

use super::Run;
use crate::Error;
use crate::checkpoint::step_of;
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
                self.saved = step_of(&path).map(|step| (step, path));
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
                let saved = path.and_then(|path| Some((step_of(&path)?, path)));
                self.saved = saved.or(self.saved.take());
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

    /// What the run writes about itself is not worth its end, where a checkpoint is not: that it
    /// cannot be written is said once.
    pub(super) fn mind(&mut self, written: Result<(), Failure>) -> Result<(), Failure> {
        match written {
            Err(Failure::Other(problem))
                if self.options.saving.on_save_error == OnSaveError::GoOn =>
            {
                if !std::mem::replace(&mut self.warned, true) {
                    self.output.warn(&format!("{problem}; training goes on"));
                }
                Ok(())
            }
            written => written,
        }
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
