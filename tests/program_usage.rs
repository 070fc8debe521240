//! Promise: every bad input to the commands beside training is one line that says what to change,
//! and an exit code: 2 for wrong usage, 1 for the rest.
#![cfg(feature = "cli")]
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use program::{assert_fails, brigade, folder_with_text};
use std::fs;

#[test]
fn other_commands_are_as_clear() {
    let folder = folder_with_text();
    fs::create_dir(folder.path().join("hollow")).unwrap();
    for (arguments, code, wanted) in [
        ("trian", 2, "a similar subcommand exists: 'train'"),
        ("schedule shwo", 2, "'show'"),
        ("schedule show --schedule gpip", 2, "'gpipe'"),
        ("schedule show --nodes 0", 2, "--nodes is 0"),
        ("schedule show --micro-batches 0", 2, "--micro-batches is 0"),
        (
            "schedule show --nodes 60000 --micro-batches 60000",
            2,
            "at most 139",
        ),
        ("schedule show --forward 1,2", 2, "--forward has 2 numbers"),
        (
            "schedule show --micro-batches 4000000",
            2,
            "--micro-batches is 4000000",
        ),
        ("schedule show --micro-batches 400000", 2, "cannot be drawn"),
        (
            "schedule show --forward 1e308",
            2,
            "give a number of 0 or more",
        ),
        (
            "schedule show --forward -1",
            2,
            "give a number of 0 or more",
        ),
        ("completions", 2, "<SHELL>"),
        ("config --lr -3", 2, "learning rate"),
        ("config --heads 3", 2, "make it"),
        ("generate --seed -1", 2, "give a whole number"),
        (
            "schedule show --forward 0 --backward-input 0 --backward-weight 0",
            2,
            "are all 0",
        ),
        (
            "schedule show --forward nan",
            2,
            "give a number of 0 or more",
        ),
        (
            "schedule simulate --link-latency -1",
            2,
            "--link-latency is -1",
        ),
        (
            "schedule simulate --memory-limit nan",
            2,
            "--memory-limit is NaN",
        ),
        (
            "schedule check --memory-limit 3",
            1,
            "keeps 4 micro-batches",
        ),
        (
            "schedule check --freed-at-input 2",
            2,
            "--freed-at-input is 2",
        ),
        ("schedule show --chunks 2", 2, "nearest is 1 chunk"),
        (
            "schedule show --schedule dualpipe-v --micro-batches 7",
            2,
            "nearest is 8 micro-batches",
        ),
        (
            "schedule simulate --schedule zb-auto --memory-limit 0.5",
            2,
            "nearest is a limit of 1",
        ),
        ("schedule import", 2, "--csv FILE.csv"),
        ("schedule import --csv none.csv", 1, "cannot read none.csv"),
        (
            "schedule export --csv missing/a.csv",
            1,
            "cannot write missing/a.csv",
        ),
        (
            "schedule show --svg missing/a.svg",
            1,
            "cannot write missing/a.svg",
        ),
        ("schedule show --width 0", 2, "--width is 0"),
        ("generate", 1, "train first"),
        ("generate missing", 1, "cannot read missing/config.toml"),
        ("generate hollow", 1, "cannot read hollow/config.toml"),
        ("generate --temperature -1", 2, "--temperature is -1"),
        ("generate --temperature nan", 2, "--temperature is NaN"),
        ("generate --top-p 0", 2, "--top-p is 0; it must be above 0"),
        ("generate --top-p 1.5", 2, "--top-p is 1.5"),
        ("generate --tokens -1", 2, "'-1'"),
        ("import missing", 1, "cannot read missing"),
        ("import hollow", 1, "cannot read hollow/config.toml"),
        ("export", 2, "--out <FOLDER>"),
        ("export --out out", 1, "train first"),
        (
            "export hollow --out out",
            1,
            "cannot read hollow/config.toml",
        ),
        ("config --from hollow", 1, "cannot read hollow/config.toml"),
        ("completions tcsh", 2, "bash"),
        ("tokenize text.txt --out new", 2, "--tokenizer <FILE>"),
        ("tokenize text.txt --tokenizer a.json", 2, "--out <FOLDER>"),
        (
            "tokenize text.txt --tokenizer a.json --out new",
            1,
            "cannot read a.json",
        ),
        ("config --vocab -1", 2, "give a whole number"),
        ("config --nodes 0", 2, "--nodes is 0"),
        ("plan text.txt --nodes 99", 2, "nodes times chunks"),
        ("plan text.txt --node-memory 1MiB", 1, "use more nodes"),
        (
            "plan text.txt --profile none.json",
            1,
            "cannot read none.json",
        ),
        ("profile missing", 1, "cannot read missing"),
        ("profile text.txt --nodes 0", 2, "--nodes is 0"),
        (
            "profile text.txt --micro-batch-sizes 1,x",
            2,
            "such as 1,2,4",
        ),
        ("profile text.txt --micro-batch-sizes 99", 2, "has 99"),
        ("checkpoint lst", 2, "'list'"),
        ("checkpoint list", 1, "train first"),
        ("checkpoint show text.txt", 1, "text.txt is no folder"),
        ("checkpoint list missing", 1, "cannot read missing"),
        ("checkpoint verify hollow", 1, "hollow has no checkpoint"),
        ("checkpoint prune hollow", 2, "--keep"),
        ("checkpoint prune hollow --keep 0", 2, "--keep is 0"),
        ("checkpoint prune hollow --keep -1", 2, "'-1'"),
    ] {
        assert_fails(&brigade(folder.path(), arguments), arguments, code, wanted);
    }
    for help in [
        "--help",
        "train --help",
        "plan -h",
        "profile --help",
        "tokenize --help",
        "generate --help",
        "import --help",
        "export --help",
        "--version",
    ] {
        assert!(brigade(folder.path(), help).status.success(), "{help}");
    }
}

/// What an MPI launcher leaves in the environment.
#[cfg(not(feature = "mpi"))]
#[test]
fn one_of_several_without_mpi_is_refused() {
    let folder = folder_with_text();
    let run = |rank: &str| {
        let mut command =
            program::command(folder.path(), &format!("train text.txt {}", program::SMALL));
        command.env("OMPI_COMM_WORLD_RANK", rank);
        command.env("OMPI_COMM_WORLD_SIZE", "4");
        command.output().unwrap()
    };
    assert_fails(&run("0"), "first", 1, "build it with --features mpi");
    let other = run("1");
    assert!(
        !other.status.success() && other.stderr.is_empty(),
        "one says it for all"
    );
}
