//! The whole store below a broker: faults at every call of the disk and of the catalog, beside a model of
//! what may be found afterwards.

mod damage;
mod exhaustive;
mod keeping;
mod model;
mod pressure;
mod random;
mod returns;
mod world;
