//! The examples run.

#[path = "../../examples/dataframe.rs"]
mod dataframe;
#[path = "../../examples/local_files.rs"]
mod local_files;
#[path = "../../examples/own_session.rs"]
mod own_session;
#[path = "../../examples/relations.rs"]
mod relations;
#[path = "../../examples/sql.rs"]
mod sql;

#[test]
fn dataframe_example() {
    dataframe::main().unwrap();
}

#[test]
fn local_files_example() {
    local_files::main().unwrap();
}

#[test]
fn own_session_example() {
    own_session::main().unwrap();
}

#[test]
fn relations_example() {
    relations::main().unwrap();
}

#[test]
fn sql_example() {
    sql::main().unwrap();
}
