//! The management side of Leveret. It shows and changes what the broker has; what it must know of sockets, limits and
//! the process around it comes in through [`node::Node`].

pub mod node;
