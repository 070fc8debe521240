//! What the values of options look like, and what is said when they do not.

use crate::schedule::ScheduleKind;
use crate::{Cuts, PlanError, Recompute};
use brigade_layer::Precision;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command, ValueEnum};
use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A whole number.
pub(in crate::cli) fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    let problem = "give a whole number, 0 or more";
    text.parse().map_err(|_| problem.to_owned())
}

/// A number.
pub(in crate::cli) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| "give a number, such as 0.001 or 1e-3".to_owned())
}

/// Precisions by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum PrecisionArg {
    // As good as single precision.
    F32,
    // Factors rounded to 8 significant bits.
    Bf16,
}

impl fmt::Display for PrecisionArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl From<PrecisionArg> for Precision {
    fn from(precision: PrecisionArg) -> Self {
        match precision {
            PrecisionArg::F32 => Self::F32,
            PrecisionArg::Bf16 => Self::Bf16,
        }
    }
}

impl From<Precision> for PrecisionArg {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Bf16 => Self::Bf16,
            _ => Self::F32,
        }
    }
}

/// A schedule by its name, or a file.
#[derive(Clone, Debug)]
pub(in crate::cli) enum ScheduleArg {
    Kind(ScheduleKind),
    File(PathBuf),
}

impl fmt::Display for ScheduleArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => kind.fmt(f),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Chosen by the planner.
const AUTO: &str = "auto";

/// Rows of a micro-batch.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct MicroBatchArg(pub(in crate::cli) Option<usize>);

impl fmt::Display for MicroBatchArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(rows) => rows.fmt(f),
            None => f.write_str(AUTO),
        }
    }
}

impl FromStr for MicroBatchArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            AUTO => Ok(Self(None)),
            text => {
                let problem = "give a whole number, 0 or more, or auto";
                let rows = text.parse().map_err(|_| problem)?;
                Ok(Self(Some(rows)))
            }
        }
    }
}

/// A schedule, or whichever is fastest.
#[derive(Clone, Debug)]
pub(in crate::cli) enum OrderArg {
    Auto,
    Given(ScheduleArg),
}

impl fmt::Display for OrderArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str(AUTO),
            Self::Given(schedule) => schedule.fmt(f),
        }
    }
}

/// As [`schedule`], or `auto`.
pub(super) fn order() -> impl TypedValueParser<Value = OrderArg> {
    OrderParser
}

#[derive(Clone)]
struct OrderParser;

impl TypedValueParser for OrderParser {
    type Value = OrderArg;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<OrderArg, clap::Error> {
        match value.to_str() == Some(AUTO) {
            true => Ok(OrderArg::Auto),
            false => Ok(OrderArg::Given(
                ScheduleParser.parse_ref(command, arg, value)?,
            )),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let auto = PossibleValue::new(AUTO);
        Some(Box::new(ScheduleParser.possible_values()?.chain([auto])))
    }
}

/// What ends in `.csv` is a file; anything else must be a name.
pub(in crate::cli) fn schedule() -> impl TypedValueParser<Value = ScheduleArg> {
    ScheduleParser
}

#[derive(Clone)]
struct ScheduleParser;

impl ScheduleParser {
    fn names() -> impl TypedValueParser<Value = ScheduleKind> {
        PossibleValuesParser::new(ScheduleKind::ALL.map(ScheduleKind::name))
            .try_map(|name| -> Result<ScheduleKind, PlanError> { name.parse() })
    }
}

impl TypedValueParser for ScheduleParser {
    type Value = ScheduleArg;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<ScheduleArg, clap::Error> {
        let path = PathBuf::from(value);
        match path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
        {
            true => Ok(ScheduleArg::File(path)),
            false => {
                let kind = Self::names().parse_ref(command, arg, value)?;
                Ok(ScheduleArg::Kind(kind))
            }
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = ScheduleKind::ALL.map(ScheduleKind::name);
        Some(Box::new(names.into_iter().map(PossibleValue::new)))
    }
}

/// Where to cut the network.
#[derive(Clone, Debug)]
pub(super) struct CutsArg(pub(super) Cuts);

impl FromStr for CutsArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "balanced" => Ok(Self(Cuts::Balanced)),
            "uniform" => Ok(Self(Cuts::Uniform)),
            list => {
                let cuts: Result<_, _> = list.split(',').map(|cut| cut.trim().parse()).collect();
                let problem = "give balanced, uniform, or layer numbers such as 3,6,9";
                Ok(Self(Cuts::Before(cuts.map_err(|_| problem)?)))
            }
        }
    }
}

/// What is computed again, as it was given.
#[derive(Clone, Debug)]
pub(in crate::cli) struct RecomputeArg {
    text: String,
    /// None: whatever fits and is fastest.
    recompute: Option<Recompute>,
}

impl RecomputeArg {
    pub(in crate::cli) fn is_never(&self) -> bool {
        self.recompute == Some(Recompute::Never)
    }

    pub(in crate::cli) fn is_auto(&self) -> bool {
        self.recompute.is_none()
    }

    pub(super) fn settled(&self) -> Recompute {
        self.recompute.clone().unwrap_or_default()
    }

    /// As it was chosen, in words.
    pub(in crate::cli) fn chosen(recompute: Recompute, text: String) -> Self {
        let recompute = Some(recompute);
        Self { text, recompute }
    }
}

impl fmt::Display for RecomputeArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for RecomputeArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let range = |range: &str| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let [first, last] = [first, last].map(|number| number.trim().parse::<usize>());
            let (first, last) = (first.ok()?, last.ok()?);
            Some(first..last.checked_add(1).filter(|end| *end > first)?)
        };
        let problem = "give never, except-last, always, auto, or layers such as 0-7,8-15";
        let recompute = match text {
            "auto" => None,
            "never" => Some(Recompute::Never),
            "except-last" => Some(Recompute::ExceptLast),
            "always" => Some(Recompute::Always),
            list => {
                let ranges: Option<_> = list.split(',').map(range).collect();
                Some(Recompute::Layers(ranges.ok_or(problem)?))
            }
        };
        let text = text.to_owned();
        Ok(Self { text, recompute })
    }
}

/// The two decays of Adam.
#[derive(Clone, Copy, Debug)]
pub(super) struct BetasArg(pub(super) f64, pub(super) f64);

impl FromStr for BetasArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.trim()
                .parse::<f64>()
                .ok()
                .filter(|beta| (0.0..1.0).contains(beta))
        };
        let betas = text
            .split_once(',')
            .and_then(|(one, two)| Some(Self(number(one)?, number(two)?)));
        betas.ok_or_else(|| "give two numbers from 0 to below 1, such as 0.9,0.99".into())
    }
}
