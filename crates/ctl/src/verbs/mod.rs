//! All verbs, each in the file of what it is about. A verb is a line in the table of its file: name, purpose, its own
//! arguments, and what it does.

mod access;
mod completion;
mod connections;
mod definitions;
mod health;
pub(crate) mod listing;
mod node;
mod parameters;
mod plugins;
mod policies;
mod queues;
mod redrive;
mod refused;
mod support_report;
mod users;
mod vhosts;
mod watch;

use clap::{Arg, ArgAction, Command};

use crate::call::Call;
use crate::columns::{LISTINGS, Listing};
use crate::failure::Failure;

/// A verb.
pub(crate) struct Verb {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it is for.
    pub(crate) about: &'static str,
    /// Adds its own arguments.
    pub(crate) arguments: fn(Command) -> Command,
    /// What it does.
    pub(crate) run: fn(&mut Call<'_>) -> Result<(), Failure>,
}

/// A verb of RabbitMQ's tools that is not possible here.
pub(crate) struct Refusal {
    /// Its name.
    pub(crate) name: &'static str,
    /// Why not, and what to do instead.
    pub(crate) reason: &'static str,
}

/// What a word on the command line leads to.
#[derive(Clone, Copy)]
pub(crate) enum Action {
    /// A verb of its own kind.
    Verb(&'static Verb),
    /// A listing.
    List(&'static Listing),
    /// A text that says why not.
    Refuse(&'static Refusal),
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Verb(verb) => verb.name,
            Self::List(listing) => listing.verb,
            Self::Refuse(refusal) => refusal.name,
        }
    }
}

/// The verbs of the broker, or those of plugins.
pub(crate) fn all(plugins: bool) -> Vec<Action> {
    if plugins {
        return plugins::VERBS.iter().map(Action::Verb).collect();
    }
    let groups: [&'static [Verb]; 14] = [
        node::VERBS,
        support_report::VERBS,
        health::VERBS,
        watch::VERBS,
        users::VERBS,
        access::VERBS,
        vhosts::VERBS,
        policies::VERBS,
        parameters::VERBS,
        queues::VERBS,
        redrive::VERBS,
        connections::VERBS,
        definitions::VERBS,
        completion::VERBS,
    ];
    let verbs = groups.into_iter().flatten().map(Action::Verb);
    let listings = LISTINGS.into_iter().map(Action::List);
    listings.chain(verbs).chain(refused::REFUSALS.iter().map(Action::Refuse)).collect()
}

/// What the verb of that name does.
pub(crate) fn find(name: &str, plugins: bool) -> Option<Action> {
    all(plugins).into_iter().find(|action| action.name() == name)
}

/// A verb without arguments of its own.
fn none(command: Command) -> Command {
    command
}

/// An argument by its place, which has to be there.
fn required(name: &'static str) -> Arg {
    Arg::new(name).required(true)
}

/// An argument by its place, which may be missing.
fn optional(name: &'static str) -> Arg {
    Arg::new(name)
}

/// An option with a value.
fn option(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help)
}

/// An option that is given or not.
fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

#[test]
fn every_verb_has_one_meaning() {
    let mut names: Vec<&str> = all(false).into_iter().map(Action::name).collect();
    let verbs = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), verbs);
}
