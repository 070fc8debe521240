//! Whether a launcher (`mpirun`, `mpiexec`, `srun`) started this process as one of several: what
//! its environment says, without asking MPI.

use std::env;

/// This process among those that its launcher started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) rank: usize,
    pub(crate) size: usize,
}

/// Variables with rank and size: of Open MPI; of MPICH and others by PMI; of Slurm by PMIx.
const LAUNCHERS: [(&str, &str); 3] = [
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("PMIX_RANK", "SLURM_NTASKS"),
];

/// This process among several; nothing when it was started by itself.
pub(crate) fn launch() -> Option<Launch> {
    from(|name| env::var(name).ok())
}

fn from(variable: impl Fn(&str) -> Option<String>) -> Option<Launch> {
    let number = |name| variable(name)?.trim().parse::<usize>().ok();
    let launches = LAUNCHERS.iter().filter_map(|(rank, size)| {
        let (rank, size) = (number(rank)?, number(size)?);
        Some(Launch { rank, size })
    });
    { launches }.find(|launch| launch.size > 1 && launch.rank < launch.size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_are_told_by_what_they_leave_in_the_environment() {
        let with = |variables: &'static [(&str, &str)]| {
            from(move |name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let second_of_four = Some(Launch { rank: 1, size: 4 });
        assert_eq!(with(&[]), None);
        let open_mpi = with(&[("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "4")]);
        assert_eq!(open_mpi, second_of_four);
        assert_eq!(
            with(&[("PMI_RANK", "1"), ("PMI_SIZE", "4")]),
            second_of_four
        );
        assert_eq!(
            with(&[("PMIX_RANK", "1"), ("SLURM_NTASKS", "4")]),
            second_of_four
        );
        // A batch script is not a step, and one process needs no MPI.
        assert_eq!(with(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")]), None);
        assert_eq!(with(&[("PMI_RANK", "0"), ("PMI_SIZE", "1")]), None);
        assert_eq!(with(&[("PMI_RANK", "x"), ("PMI_SIZE", "4")]), None);
    }
}
